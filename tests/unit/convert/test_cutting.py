from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinfs.convert.cutting import MAX_PIECES, PIECE_BYTES, packed, piece_bytes
from thinfs.convert.runs import Run

MOST = 1 << 20


@pytest.mark.parametrize("size", [1, 4096, 13_000_000, PIECE_BYTES * MAX_PIECES])
def test_images_of_usual_sizes_are_cut_finely(size: int) -> None:
    assert piece_bytes(size, MOST) == PIECE_BYTES


def test_a_large_image_has_larger_pieces_so_that_it_can_be_listed() -> None:
    assert piece_bytes(PIECE_BYTES * MAX_PIECES + 1, MOST) == 2 * PIECE_BYTES
    assert piece_bytes(4 << 30, MOST) == MOST


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 300))), st.integers(1, 100))
def test_packing_keeps_every_byte_in_its_order(gaps: list[tuple[int, int]], most: int) -> None:
    runs, at = [], 0
    for gap, length in gaps:
        runs.append(Run(at + gap, length))
        at += gap + length
    groups = list(packed(runs, most))
    assert [b for g in groups for r in g for b in range(r.offset, r.end)] == [
        b for r in runs for b in range(r.offset, r.end)
    ]
    sizes = [sum(run.length for run in group) for group in groups]
    assert all(size == most for size in sizes[:-1])
    assert all(0 < size <= most for size in sizes)
