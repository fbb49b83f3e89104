from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinfs.errors import FormatError
from thinfs.store.profiles import (
    Profile,
    Touched,
    parse_profile,
    path_bytes,
    path_text,
    profile_digest,
    render_profile,
)

CHAIN = "sha256:" + "a" * 64
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
NUMBERS = st.integers(0, 1 << 40)
RANGES = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3).map(tuple)
TOUCHED = st.builds(Touched, DIGESTS, st.binary().map(path_text), NUMBERS, RANGES)
PROFILES = st.builds(
    Profile,
    version=st.just(1),
    chain_id=st.just(CHAIN),
    origin=st.text(st.characters(exclude_categories=["Cs"])),
    runs=st.integers(1, 9),
    ready_ms=NUMBERS,
    touched=st.lists(TOUCHED, max_size=4).map(tuple),
    metadata=st.sampled_from(["", CHAIN]),
    metadata_ranges=RANGES,
)


@given(st.binary())
def test_any_path_comes_back_from_its_text(path: bytes) -> None:
    assert path_bytes(path_text(path)) == path


def test_only_what_is_no_text_is_escaped() -> None:
    assert path_text("usr/lib/Ärger 100%".encode()) == "usr/lib/Ärger 100%25"
    assert path_text(b"a\xff") == "a%FF"


@given(PROFILES)
def test_a_profile_comes_back_as_it_was_written(profile: Profile) -> None:
    assert parse_profile(render_profile(profile), "it") == profile


def test_a_profile_has_a_line_for_each_content_so_that_two_can_be_compared() -> None:
    touched = tuple(Touched(f"{i:064x}", f"f{i}") for i in range(5))
    text = render_profile(Profile(1, CHAIN, "x", 1, 0, touched)).splitlines()
    assert len(text) == 7


def test_profiles_that_differ_have_different_digests() -> None:
    one, two = (Profile(1, CHAIN, name, 1, 0, ()) for name in "ab")
    assert profile_digest(one) == profile_digest(one) != profile_digest(two)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"\xff", b'{"version": 1}', b"[" * 100_000],
)
def test_what_is_no_profile_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(FormatError, match=r"x\.profile"):
        parse_profile(text, "x.profile")


def test_another_version_is_refused() -> None:
    data = render_profile(Profile(1, CHAIN, "x", 1, 0, ()))
    with pytest.raises(FormatError, match="version 2"):
        parse_profile(data.replace(b'"version":1', b'"version":2'), "x")
