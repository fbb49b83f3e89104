"""What comes before anybody asks for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.support.reading import ScriptedSource, World, patterned, sha256
from thinfs.cache.contents import ContentStore, RootContents
from thinfs.cache.directory import NodeCache
from thinfs.cache.places import Kind
from thinfs.cache.prefetch import (
    BACKGROUND_PARALLEL,
    FIRST_PARALLEL,
    PARALLEL,
    QUIET_S,
    Stage,
)
from thinfs.config import CacheConfig, SourcesConfig
from thinfs.fetch.fetcher import Fetcher
from thinfs.fetch.gate import Priority
from thinfs.store.layout import object_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from catalog.model import ObjectRef

KIB = 1 << 10
BODIES = [patterned(1000, number) for number in range(40)]


class Node:
    """A store on one scripted source, and a root whose files are in objects of their own."""

    def __init__(self, world: World, store: ContentStore, cache: NodeCache) -> None:
        self.store = store
        self.cache = cache
        self.source = ScriptedSource(world.files)
        self.root = RootContents(world, (self.source,))
        self.refs = list(world.objects.values())

    def begin(self, priority: Priority, refs: Sequence[ObjectRef] | None = None) -> None:
        async def objects() -> Sequence[ObjectRef]:
            return self.refs if refs is None else refs

        self.store.join("root", self.root)
        self.store.prefetches.begin("root", self.root, [Stage(priority, objects)])

    def asked(self) -> list[str]:
        return [path for path, _ in self.source.asked]

    def kept(self) -> int:
        return sum(self.cache.places.file(Kind.CONTENT, sha256(b)).exists() for b in BODIES)


@asynccontextmanager
async def node(path: Path, world: World) -> AsyncIterator[Node]:
    cache = NodeCache(path, max_bytes=1 << 30, low_water=0.9)
    cache.open()
    try:
        async with trio.open_nursery() as nursery:
            config = SourcesConfig(read_timeout_s=5.0)
            fetcher = Fetcher(nursery, [], config, pause_s=lambda _: 0.0)
            store = ContentStore(nursery, cache, fetcher, CacheConfig())
            yield Node(world, store, cache)
            store.leave("root")
            await store.aclose()
            nursery.cancel_scope.cancel()
    finally:
        cache.close()


@pytest.fixture
def world() -> World:
    made = World()
    for body in BODIES:
        made.bundle(body)
    return made


async def until(met: object) -> None:
    with trio.fail_after(20):
        while not met():  # type: ignore[operator] # a condition
            await trio.sleep(0.01)


async def test_objects_come_in_their_order_and_reach_the_disk(tmp_path: Path, world: World) -> None:
    async with node(tmp_path / "cache", world) as it:
        it.begin(Priority.PROFILE)
        await until(lambda: it.kept() == len(BODIES))
        order = [object_path(ref.digest) for ref in it.refs]
        places = [order.index(path) for path in it.asked()]
        assert all(abs(at - place) <= 2 * PARALLEL for at, place in enumerate(places))
        assert it.source.most <= PARALLEL
        assert it.store.objects.ahead_bytes == sum(ref.stored_size for ref in it.refs)


async def test_the_first_objects_share_the_link_with_few(tmp_path: Path, world: World) -> None:
    async with node(tmp_path / "cache", world) as it:
        it.source.otherwise = "h"
        it.begin(Priority.PROFILE)
        await until(lambda: len(it.asked()) >= FIRST_PARALLEL)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(it.asked()) == FIRST_PARALLEL
        it.source.release.set()
        await until(lambda: it.kept() == len(BODIES))
        assert it.source.most > FIRST_PARALLEL


async def test_what_is_on_the_disk_is_not_fetched(tmp_path: Path, world: World) -> None:
    async with node(tmp_path / "cache", world) as it:
        it.begin(Priority.PROFILE, it.refs[:30])
        await until(lambda: it.kept() == 30)
    async with node(tmp_path / "cache", world) as it:
        it.begin(Priority.PROFILE)
        await until(lambda: it.kept() == len(BODIES))
        assert len(it.asked()) == 10


async def test_parts_of_large_contents_that_are_here_are_not_fetched(tmp_path: Path) -> None:
    world = World()
    big = patterned(500 * KIB, 1)
    number = world.chunked(big, 64 * KIB)
    async with node(tmp_path / "cache", world) as it:
        body = it.store.open(it.root, number)
        await body.read(0, 100 * KIB)
        body.close()
        await it.store.drain()
    async with node(tmp_path / "cache", world) as it:
        it.begin(Priority.PROFILE)
        whole = it.cache.places.file(Kind.CONTENT, sha256(big))
        await until(whole.exists)
        assert len(it.asked()) == 6


async def test_a_reader_who_asks_meanwhile_waits_for_the_same_download(
    tmp_path: Path, world: World
) -> None:
    async with node(tmp_path / "cache", world) as it:
        it.source.script = "h"
        it.begin(Priority.PROFILE, it.refs[:1])
        await until(lambda: it.source.running == 1)
        body = it.store.open(it.root, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.read, 0, 10)
            await trio.testing.wait_all_tasks_blocked(0.01)
            it.source.release.set()
        body.close()
        assert len(it.asked()) == 1
        assert it.store.objects.used_bytes == it.refs[0].stored_size


async def test_what_was_fetched_before_it_was_asked_for_counts_as_used_once(
    tmp_path: Path, world: World
) -> None:
    async with node(tmp_path / "cache", world) as it:
        await it.store.objects.ahead(it.root, it.refs[0].digest, Priority.PROFILE)
        assert it.store.objects.used_bytes == 0
        for _ in range(2):
            await it.store.objects.bring(it.root, [it.refs[0].digest])
        assert it.store.objects.used_bytes == it.refs[0].stored_size


async def test_it_stops_when_its_root_goes(tmp_path: Path, world: World) -> None:
    async with node(tmp_path / "cache", world) as it:
        it.source.otherwise = "h"
        it.begin(Priority.PROFILE)
        await until(lambda: it.source.running > 0)
        it.store.leave("root")
        with trio.fail_after(10):
            await it.store.drain()
        await until(lambda: it.source.running == 0)


async def test_the_background_rests_while_somebody_waits(
    tmp_path: Path, world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with node(tmp_path / "cache", world) as it:
        body = it.store.open(it.root, 1)
        await body.read(0, 1)
        body.close()
        began = trio.current_time()
        it.begin(Priority.BACKGROUND)
        while it.kept() < len(BODIES):
            await trio.sleep(0.01)
        assert trio.current_time() - began >= QUIET_S
        assert it.source.most <= BACKGROUND_PARALLEL


@pytest.mark.expects_log("does not answer")
async def test_what_cannot_be_had_is_tried_again_later(
    tmp_path: Path, world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with node(tmp_path / "cache", world) as it:
        it.source.script = "E" * 60
        it.begin(Priority.PROFILE)
        while it.kept() < len(BODIES):
            await trio.sleep(1)
