from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from thinfs.convert.runs import Run, joined, overlap, rest

RUNS = st.lists(st.builds(Run, st.integers(0, 200), st.integers(1, 60)), max_size=12)


def covered(runs: object) -> set[int]:
    assert isinstance(runs, list | tuple)
    return {byte for run in runs for byte in range(run.offset, run.end)}


@given(RUNS, st.integers(1, 150))
def test_joined_runs_cover_the_same_bytes_in_order_and_apart(runs: list[Run], size: int) -> None:
    found = joined(runs, size)
    assert covered(found) == {byte for byte in covered(runs) if byte < size}
    assert all(one.end < other.offset for one, other in itertools.pairwise(found))


@given(RUNS, st.integers(1, 300), st.integers(1, 20), st.integers(0, 30))
def test_units_and_gaps_only_add_bytes(runs: list[Run], size: int, unit: int, gap: int) -> None:
    found = joined(runs, size, unit=unit, gap=gap)
    assert covered(found) >= {byte for byte in covered(runs) if byte < size}
    assert all(run.offset % unit == 0 and (run.end % unit == 0 or run.end == size) for run in found)
    assert all(one.end + gap < other.offset for one, other in itertools.pairwise(found))


@given(RUNS, st.builds(Run, st.integers(0, 200), st.integers(1, 200)))
def test_the_rest_and_what_was_taken_are_the_whole(runs: list[Run], whole: Run) -> None:
    taken = joined(runs, 10_000)
    left = list(rest(taken, whole))
    assert covered(left) == covered([whole]) - covered(taken)
    assert [run.offset for run in left] == sorted(run.offset for run in left)


@given(st.builds(Run, st.integers(0, 9), st.integers(1, 9)), st.integers(0, 9), st.integers(1, 9))
def test_an_overlap_is_what_both_have(one: Run, offset: int, length: int) -> None:
    other = Run(offset, length)
    both = overlap(one, other)
    assert covered([both] if both else []) == covered([one]) & covered([other])
