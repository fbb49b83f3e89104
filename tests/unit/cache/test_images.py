"""What was brought to a node on purpose: pins, room, versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.reading import patterned, sha256
from thinfs.cache import images
from thinfs.cache.directory import NodeCache
from thinfs.cache.images import ALL, PROFILE, Wanted
from thinfs.cache.places import Kind, counted
from thinfs.errors import MissingError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BLOCK = 4096


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., NodeCache]]:
    caches: list[NodeCache] = []

    def make(blocks: int = 100) -> NodeCache:
        cache = NodeCache(tmp_path / "cache", max_bytes=blocks * BLOCK, low_water=0.9)
        cache.open()
        caches.append(cache)
        return cache

    yield make
    for cache in caches:
        cache.close()


def body(number: int) -> bytes:
    return patterned(BLOCK, number)


def files(*numbers: int) -> images.Files:
    return {(Kind.CONTENT, sha256(body(number))): counted(BLOCK) for number in numbers}


def bring(cache: NodeCache, wanted: Wanted, *numbers: int, pinned: bool = False) -> None:
    images.remember(cache, {wanted: files(*numbers)}, pinned=pinned)
    for number in numbers:
        cache.add_contents({sha256(body(number)): body(number)})


def here(cache: NodeCache, *numbers: int) -> bool:
    return images.lacking(cache, files(*numbers)) == 0


A, B = Wanted("a", ALL, "1"), Wanted("b", ALL, "1")


def test_an_image_is_complete_when_all_of_its_files_are_here(
    opened: Callable[..., NodeCache],
) -> None:
    cache = opened()
    images.remember(cache, {A: files(1, 2)}, pinned=False)
    assert not images.is_complete(cache, A, pinned=False)
    bring(cache, A, 1, 2)
    assert images.is_complete(cache, A, pinned=False)
    assert not images.is_complete(cache, A, pinned=True)
    assert images.is_complete(cache, Wanted("a", PROFILE, "1"), pinned=False)
    assert not images.is_complete(cache, Wanted("a", ALL, "2"), pinned=False)
    assert not images.is_complete(cache, B, pinned=False)


def test_a_pin_holds_for_what_has_still_to_come(opened: Callable[..., NodeCache]) -> None:
    cache = opened(blocks=10)
    images.remember(cache, {A: files(1, 2, 3)}, pinned=True)
    for number in range(1, 60):
        cache.add_contents({sha256(body(number)): body(number)})
    assert here(cache, 1, 2, 3)
    assert cache.usage()[0] <= 10 * BLOCK


def test_a_pin_outlives_the_process_and_the_boot(opened: Callable[..., NodeCache]) -> None:
    cache = opened(blocks=10)
    bring(cache, A, 1, 2, 3, pinned=True)
    images.make_durable(cache)
    cache.close()
    again = opened(blocks=10)
    with again.state.transaction() as db:
        db.execute("UPDATE about SET boot_id = 'of another boot'")
    again.close()
    last = opened(blocks=10)
    for number in range(10, 60):
        last.add_contents({sha256(body(number)): body(number)})
    assert here(last, 1, 2, 3)
    assert [each.pinned for each in images.known_images(last)] == [True]


def test_what_is_unpinned_goes_when_its_turn_comes(opened: Callable[..., NodeCache]) -> None:
    cache = opened(blocks=10)
    bring(cache, A, 1, 2, 3, pinned=True)
    images.unpin(cache, "a")
    for number in range(10, 60):
        cache.add_contents({sha256(body(number)): body(number)})
    assert not here(cache, 1)


def test_images_count_once_what_they_share_when_room_is_looked_for(
    opened: Callable[..., NodeCache],
) -> None:
    cache = opened(blocks=10)
    bring(cache, A, *range(6), pinned=True)
    images.remember(cache, {B: files(*range(9))}, pinned=True)
    with pytest.raises(StoreError, match="unpin an image"):
        images.remember(cache, {Wanted("c", ALL, "1"): files(100)}, pinned=False)
    assert [each.wanted.name for each in images.known_images(cache)] == ["a", "b"]


def test_pinning_later_is_refused_when_the_cache_could_not_work(
    opened: Callable[..., NodeCache],
) -> None:
    cache = opened(blocks=10)
    images.remember(cache, {A: files(*range(6))}, pinned=True)
    cache.close()
    larger = opened(blocks=100)
    images.remember(larger, {B: files(*range(20, 26))}, pinned=False)
    larger.close()
    cache = opened(blocks=10)
    with pytest.raises(StoreError, match="raise \\[cache\\] max_bytes"):
        images.pin(cache, "b")
    assert [each.pinned for each in images.known_images(cache)] == [True, False]


def test_a_newer_version_takes_the_pin_over_once_it_is_here(
    opened: Callable[..., NodeCache],
) -> None:
    cache = opened()
    newer = Wanted("a", ALL, "2")
    bring(cache, A, 1, 2, pinned=True)
    bring(cache, newer, 2, 3)
    assert [each.pinned for each in images.known_images(cache)] == [True, True]
    images.supersede(cache, newer)
    assert [each.wanted for each in images.known_images(cache)] == [newer]


def test_evicting_leaves_what_others_share(opened: Callable[..., NodeCache]) -> None:
    cache = opened()
    bring(cache, A, 1, 2)
    bring(cache, B, 2, 3)
    assert images.evict(cache, "a") == (1, BLOCK)
    assert not here(cache, 1)
    assert here(cache, 2, 3)
    assert [each.wanted for each in images.known_images(cache)] == [B]


@pytest.mark.parametrize("act", [images.pin, images.unpin, images.evict])
def test_what_was_not_brought_here_is_missing(
    opened: Callable[..., NodeCache], act: Callable[[NodeCache, str], object]
) -> None:
    with pytest.raises(MissingError, match="thinfs warm nothing"):
        act(opened(), "nothing")
