from __future__ import annotations

import contextlib

from hypothesis import example, given, settings
from hypothesis import strategies as st

from snapshotter.filters import Selector, parse_filter, parse_filters
from snapshotter.model import Info, InvalidArgument, Kind

texts = st.text(st.characters(exclude_categories=["Cs"]))
selectors = st.builds(
    Selector,
    st.lists(texts, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["==", "!="]),
    texts,
)


def quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def quote_bytes(text: str) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


@settings(deadline=None)  # other work on the machine is no failure
@given(st.lists(selectors, min_size=1, max_size=4))
def test_what_is_quoted_comes_back_unchanged(wanted: list[Selector]) -> None:
    text = ",".join(
        ".".join(quote(part) for part in s.path) + str(s.operator) + quote_bytes(s.value)
        for s in wanted
    )
    assert parse_filter(text) == tuple(wanted)


@settings(deadline=None)  # other work on the machine is no failure
@given(name=texts, value=texts.filter(bool), other=texts)
def test_equality_finds_exactly_the_snapshots_with_that_label(
    name: str, value: str, other: str
) -> None:
    info = Info("n", "", Kind.ACTIVE, 0, 0, {name: value})
    assert parse_filters([f"labels.{quote(name)}=={quote(value)}"])(info)
    assert parse_filters([f"labels.{quote(name)}=={quote(other)}"])(info) == (value == other)
    assert parse_filters([f"labels.{quote(name)}!={quote(other)}"])(info) == (value != other)


@settings(deadline=None)  # other work on the machine is no failure
@given(st.text() | st.text('ab"\\/|.,=!~ xu0', max_size=20))
@example('"')
@example('"\\')
@example("name~=/\\")
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        parse_filter(text)
