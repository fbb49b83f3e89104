from __future__ import annotations

import itertools
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinfs.bench.svg import Scale, element, packed, shortened, shortened_path, text, ticks

SPANS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=60).map(
    lambda pairs: sorted((begin, begin + length) for begin, length in pairs)
)


@given(SPANS)
def test_packed_bars_never_overlap_and_no_row_is_wasted(spans: list[tuple[float, float]]) -> None:
    rows = packed(spans, gap=1.0)
    for row in set(rows):
        mine = [span for span, at in zip(spans, rows, strict=True) if at == row]
        assert all(one[1] + 1.0 <= other[0] for one, other in itertools.pairwise(mine))
    # as many rows as bars lie above each other somewhere, at their beginnings
    most = max((sum(begin <= at < end + 1.0 for begin, end in spans) for at, _ in spans), default=0)
    assert len(set(rows)) <= most


@given(st.floats(1e-6, 1e12), st.integers(2, 12))
def test_ticks_are_round_few_and_within(last: float, most: int) -> None:
    found = ticks(last, most)
    assert found[0] == 0
    assert len(found) <= most + 1
    assert found[-1] <= last * 1.000_001
    assert len(found) >= 2


def test_ticks_of_nothing_are_one() -> None:
    assert ticks(0, 5) == [0.0]


def test_a_scale_clips_what_lies_outside() -> None:
    scale = Scale(0, 10, 100, 200)
    assert [scale(value) for value in (-5, 0, 5, 10, 99)] == [100, 100, 150, 200, 200]


@given(st.text(max_size=80), st.integers(20, 400))
def test_shortened_words_fit_and_keep_their_ends(words: str, width: int) -> None:
    found = shortened(words, width)
    assert len(found) <= max(len(words) and width / 7, 5)
    assert found == words or ("…" in found and found.endswith(words[-2:]))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("etc/passwd", "etc/passwd"),
        ("usr/lib/python3.11/urllib/__pycache__/__init__.pyc",
         "…thon3.11/urllib/__pycache__/__init__.pyc"),
        ("usr/lib/numpy/_multiarray_umath.cpython-311-x86_64-linux-gnu.so",
         "…/_multiarray_umath.cpython-…linux-gnu.so"),
    ],
)  # fmt: skip
def test_a_shortened_path_keeps_its_end(path: str, expected: str) -> None:
    assert shortened_path(path, 290) == expected


@given(st.text("ab/.", max_size=120), st.integers(20, 400))
def test_a_shortened_path_fits(path: str, width: int) -> None:
    assert len(shortened_path(path, width)) <= max(width // 7, 5)


@pytest.mark.parametrize("words", ["<script>", 'a "b" & c', "</text>"])
def test_words_stay_words(words: str) -> None:
    assert ET.fromstring(text(1, 2, words)).text == words
    assert ET.fromstring(element("g", fill=words)).get("fill") == words
