"""Which paths of a repository are public."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinfs.errors import UsageError
from thinfs.serve.answer import etag_matches
from thinfs.serve.published import IMMUTABLE, REVALIDATE, published
from thinfs.serve.server import Address, parse_listen
from thinfs.store.layout import (
    boot_path,
    catalog_path,
    layer_path,
    metadata_path,
    object_path,
    profile_path,
    root_path,
)

DIGESTS = st.binary(min_size=32, max_size=32)
NAME = "ab" * 32


@given(DIGESTS)
def test_what_is_named_by_its_bytes_is_public_and_immutable(digest: bytes) -> None:
    for path in (
        object_path(digest),
        catalog_path(digest),
        metadata_path(digest),
        boot_path(digest),
        layer_path(digest),
    ):
        found = published(path)
        assert found is not None
        assert (found.digest, found.cache_control) == (digest.hex(), IMMUTABLE)


@given(DIGESTS)
def test_what_is_replaced_after_a_recording_is_asked_for_each_time(digest: bytes) -> None:
    for path in (root_path(digest), profile_path(digest)):
        found = published(path)
        assert found is not None
        assert (found.digest, found.cache_control) == (None, REVALIDATE)


@given(st.lists(st.sampled_from(["objects", "oci", "..", ".", "", "tmp", "lock", NAME, "ab"])))
def test_a_path_with_a_trick_in_it_is_never_public(parts: list[str]) -> None:
    found = published("/".join(parts))
    if found is not None:
        assert not {"..", ".", "", "tmp", "lock"} & set(parts)


@pytest.mark.parametrize(
    "path",
    [
        "index.sqlite",
        "index.sqlite-wal",
        "lock",
        f"tmp/{NAME}",
        f"objects/{NAME}",
        f"objects/cd/{NAME}",  # not the folder of that name
        f"objects/ab/{NAME}\n",
        f"objects/ab/{NAME.upper()}",
        f"layers/{NAME}/",
        f"/layers/{NAME}",
        f"oci/blobs/sha512/{NAME}",
        "oci/index.json/",
        "thinfs.json\0",
    ],
)
def test_all_else_is_private(path: str) -> None:
    assert published(path) is None


def test_a_tag_matches_in_a_list_as_weak_and_as_any() -> None:
    assert etag_matches('"a"', '"a"')
    assert etag_matches('"b", W/"a"', '"a"')
    assert etag_matches("*", '"a"')
    assert not etag_matches('"b"', '"a"')
    assert not etag_matches("", '"a"')


def test_listen_takes_names_ports_and_bracketed_addresses() -> None:
    assert parse_listen("127.0.0.1:8000") == Address("127.0.0.1", 8000)
    assert parse_listen("[::1]:0") == Address("::1", 0)
    assert parse_listen(":80") == Address("", 80)


@pytest.mark.parametrize("text", ["8000", "host:", "host:x", "host:70000", "::1:80", "host:-1"])
def test_listen_refuses_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="--listen"):
        parse_listen(text)
