"""Answers to requests for one file, decided from headers alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from thinfs.serve.answer import Plan, plan
from thinfs.serve.published import published

FOUND = published(f"layers/{'ab' * 32}")
assert FOUND is not None


def answer(size: int, **headers: str) -> Plan:
    assert FOUND is not None
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return plan(FOUND, size, '"tag"', Headers(named))


@given(size=st.integers(0, 10**6), first=st.integers(0, 10**6), length=st.integers(1, 10**6))
def test_a_range_is_what_slicing_gives(size: int, first: int, length: int) -> None:
    made = answer(size, range=f"bytes={first}-{first + length - 1}")
    expected = range(size)[first : first + length]
    if not expected:
        assert (made.status, made.length) == (416, 0)
        assert made.headers["content-range"] == f"bytes */{size}"
    else:
        assert (made.status, made.first, made.length) == (206, expected.start, len(expected))


@given(size=st.integers(0, 10**6), length=st.integers(0, 10**6))
def test_a_suffix_is_the_last_bytes(size: int, length: int) -> None:
    made = answer(size, range=f"bytes=-{length}")
    expected = range(size)[max(size - length, 0) :]
    if not expected:
        assert made.status == 416
    else:
        assert (made.status, made.first, made.length) == (206, expected.start, len(expected))


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=-",
        "bytes=",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=0-1,4-5",
        "lines=0-1",
        "0-1",
        f"bytes={'9' * 19}-",
        "bytes=\u00b2-\u00b3",
    ],
)
def test_what_is_no_single_range_gets_the_whole_file(wanted: str) -> None:
    made = answer(10, range=wanted)
    assert (made.status, made.first, made.length) == (200, 0, 10)


@given(st.text(max_size=30))
def test_no_header_makes_it_fail_or_answer_beyond_the_file(text: str) -> None:
    assert FOUND is not None
    made = plan(FOUND, 100, '"tag"', {"range": text, "if-range": text, "if-none-match": text})
    assert 0 <= made.first <= made.first + made.length <= 100


def test_a_range_of_another_version_gets_the_whole_file() -> None:
    assert answer(10, range="bytes=1-", if_range='"tag"').status == 206
    assert answer(10, range="bytes=1-", if_range='"old"').status == 200


def test_what_the_client_has_is_not_sent() -> None:
    made = answer(10, if_none_match='"tag"', range="bytes=1-2")
    assert (made.status, made.length) == (304, 0)
    assert "content-length" not in made.headers
