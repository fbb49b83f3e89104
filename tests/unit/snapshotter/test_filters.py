from __future__ import annotations

import pytest

from snapshotter.filters import Selector, parse_filter, parse_filters
from snapshotter.model import Info, InvalidArgument, Kind

REF = "containerd.io/snapshot.ref"
INFO = Info(
    "default/7/extract-1",
    "sha256:aa",
    Kind.COMMITTED,
    1,
    2,
    {REF: "sha256:bb", "team.name": "a b", "empty-ish": "0"},
)


def matches(*filters: str) -> bool:
    return parse_filters(filters)(INFO)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name==default/7/extract-1",
        'name=="default/7/extract-1"',
        "parent==sha256:aa",
        "kind==committed",
        "kind!=active",
        "name",
        "labels.team.name",
        'labels."team.name"=="a b"',
        f'labels."{REF}"==sha256:bb,parent=="sha256:aa"',
        "labels.missing!=x",
        "name~=extract",
        "name~=/extract-[0-9]$/",
        "name~=|^default|",
        'name~="^default/7/"',
        " name == default/7/extract-1 , kind == committed ",
    ],
)
def test_a_snapshot_is_found_by_what_is_true_of_it(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "name==extract-1",
        "parent==",
        "parent==sha256:aa,kind==view",
        "labels.missing",
        "labels.missing==x",
        "labels",
        "labels==x",
        "unknown",
        "unknown==x",
        "name~=^extract",
        "labels.missing~=x",
    ],
)
def test_a_snapshot_is_not_found_by_what_is_not(text: str) -> None:
    if text == "parent==":
        text = 'parent==""'
    assert not matches(text)


def test_a_snapshot_is_found_when_any_of_several_filters_is_true() -> None:
    assert matches("kind==view", "kind==committed")
    assert not matches("kind==view", "kind==active")


def test_without_filters_all_are_found() -> None:
    assert matches()


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("name==", 7),
        ("==x", 1),
        ("name=x", 5),
        ("name==x y", 9),
        ("name==x,", 9),
        ("labels.", 8),
        ('name=="x', 7),
        ('name=="\\q"', 7),
        ('name=="\\xff"', 7),
        ('name=="\\ud800"', 7),
        ("name~=(", 8),
        ("name~=/[[:alpha:]]/", 20),
        ("na-me==x", 3),
    ],
)
def test_a_malformed_filter_is_refused_with_the_place_of_the_fault(
    text: str, position: int
) -> None:
    with pytest.raises(InvalidArgument, match=f"character {position}:"):
        parse_filter(text)


def test_escapes_are_those_of_go_strings() -> None:
    assert parse_filter(r'name=="\a\t\\\"\x41\101\u00e9\U0001f600\xc3\xa9"') == (
        Selector(("name",), "==", '\a\t\\"AAé😀é'),
    )


def test_a_slash_ends_a_regular_expression_only_when_it_is_not_escaped() -> None:
    assert parse_filter(r"name~=/a\/b/") == (Selector(("name",), "~=", "a/b"),)
