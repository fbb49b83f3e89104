from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from thinfs.errors import StoreError
from thinfs.store.layout import profile_path, raw_digest
from thinfs.store.profiles import Profile
from thinfs.store.shelf import ProfileShelf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHAINS = [f"sha256:{digit * 64}" for digit in "abc"]
REDIS = "docker.io/library/redis:7"


def profile(origin: str) -> Profile:
    return Profile(1, CHAINS[0], origin, 1, 9, ())


def put(repository: Path, chain: str, origin: str, at_s: int) -> Profile:
    made = profile(origin)
    ProfileShelf(repository).put(chain, made)
    os.utime(repository / profile_path(raw_digest(chain)), (at_s, at_s))
    return made


def test_a_profile_is_that_of_its_chain_until_another_one_is(tmp_path: Path) -> None:
    shelf = ProfileShelf(tmp_path)
    assert shelf.get(CHAINS[0]) is None
    shelf.put(CHAINS[0], profile("one"))
    assert shelf.get(CHAINS[0]) == profile("one")
    shelf.put(CHAINS[0], msgspec.structs.replace(profile("one"), runs=5))
    assert shelf.get(CHAINS[0]) == msgspec.structs.replace(profile("one"), runs=5)
    assert shelf.get(CHAINS[1]) is None


def test_the_newest_profile_of_a_name_is_found_whatever_its_image_was(tmp_path: Path) -> None:
    assert ProfileShelf(tmp_path).newest_of(REDIS) is None
    put(tmp_path, CHAINS[0], f"{REDIS}@sha256:1", at_s=1)
    newest = put(tmp_path, CHAINS[1], f"{REDIS}@sha256:2", at_s=3)
    put(tmp_path, CHAINS[2], f"{REDIS}.2@sha256:3", at_s=9)  # another tag
    assert ProfileShelf(tmp_path).newest_of(REDIS) == newest
    assert ProfileShelf(tmp_path).newest_of("docker.io/library/redis") is None


def test_a_profile_that_is_used_again_is_no_newer(tmp_path: Path) -> None:
    old = put(tmp_path, CHAINS[0], f"{REDIS}@sha256:1", at_s=1)
    newest = put(tmp_path, CHAINS[1], f"{REDIS}@sha256:2", at_s=3)
    ProfileShelf(tmp_path).put(CHAINS[0], old)
    assert ProfileShelf(tmp_path).newest_of(REDIS) == newest


def test_a_damaged_profile_counts_as_not_there_and_is_said(
    tmp_path: Path, expect_log: Callable[[str], None]
) -> None:
    expect_log("is not a boot profile.*going on without it")
    put(tmp_path, CHAINS[0], REDIS, at_s=1)
    (tmp_path / profile_path(raw_digest(CHAINS[0]))).write_bytes(b"{")
    assert ProfileShelf(tmp_path).get(CHAINS[0]) is None
    assert ProfileShelf(tmp_path).newest_of(REDIS) is None


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "profiles").write_text("in the way")
    with pytest.raises(StoreError, match="profiles"):
        ProfileShelf(tmp_path).put(CHAINS[0], profile("x"))
    with pytest.raises(StoreError, match="profiles"):
        ProfileShelf(tmp_path).newest_of("x")
