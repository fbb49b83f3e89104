"""Bytes of contents, from wherever they are nearest."""

from __future__ import annotations

import os
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from prometheus_client import CollectorRegistry, generate_latest

from catalog.model import Extent
from tests.support.reading import ScriptedSource, World, flipped, patterned, sha256
from thinfs.cache import metrics as cache_metrics
from thinfs.cache.catalogs import CatalogStore
from thinfs.cache.contents import Body, ContentStore, RootContents
from thinfs.cache.directory import NodeCache
from thinfs.cache.disk import PAUSE_S
from thinfs.cache.partial import PartialFile
from thinfs.cache.places import Kind
from thinfs.cache.plan import layout_digest
from thinfs.cache.writer import MAX_WAITING, SLOW_DOWN_AT, WAIT_FOR_DISK_S
from thinfs.config import CacheConfig, SourcesConfig
from thinfs.errors import (
    FormatError,
    IntegrityError,
    MissingError,
    StoreError,
    ThinfsError,
    TransportError,
)
from thinfs.fetch import metrics as fetch_metrics
from thinfs.fetch.fetcher import Fetcher
from thinfs.store.layout import object_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from trio.testing import MockClock

KIB = 1 << 10
SMALL = [patterned(size, size) for size in (100, 5000, 1, 70_000)]
BIG = patterned(500 * KIB, 7)


class Node:
    """A cache, a fetcher and a store on one scripted source."""

    def __init__(self, world: World, store: ContentStore, cache: NodeCache, fetcher: Fetcher):
        self.world = world
        self.store = store
        self.cache = cache
        self.fetcher = fetcher
        self.source = ScriptedSource(world.files)
        self.root = RootContents(world, (self.source,))

    def open(self, number: int) -> Body:
        return self.store.open(self.root, number)

    async def read(self, number: int, offset: int = 0, length: int = 1 << 30) -> bytes:
        body = self.open(number)
        try:
            return await body.read(offset, length)
        finally:
            body.close()

    def kept(self, data: bytes) -> bool:
        return self.cache.places.file(Kind.CONTENT, sha256(data)).exists()


@asynccontextmanager
async def node(
    path: Path,
    world: World,
    *,
    max_bytes: int = 1 << 30,
    memory_bytes: int = 1 << 20,
    read_timeout_s: float = 60.0,
) -> AsyncIterator[Node]:
    cache = NodeCache(path, max_bytes=max_bytes, low_water=0.9)
    try:
        cache.open()
    except StoreError:
        assert not cache.writable
    try:
        async with trio.open_nursery() as nursery:
            sources = SourcesConfig(read_timeout_s=read_timeout_s)
            fetcher = Fetcher(nursery, [], sources, pause_s=lambda _: 0.0)
            config = CacheConfig(memory_bytes=memory_bytes)
            store = ContentStore(nursery, cache, fetcher, config)
            yield Node(world, store, cache, fetcher)
            await store.aclose()
            nursery.cancel_scope.cancel()
    finally:
        cache.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def world() -> World:
    made = World()
    made.bundle(*SMALL)  # numbers 1 to 4
    made.chunked(BIG, 64 * KIB)  # number 5
    return made


async def test_one_object_brings_all_contents_in_it(path: Path, world: World) -> None:
    async with node(path, world) as it:
        assert await it.read(2) == SMALL[1]
        await it.store.drain()
        assert all(it.kept(body) for body in SMALL)
        assert [await it.read(n) for n in (1, 2, 3, 4)] == SMALL
        status = await it.store.status()
        assert (status.hits, status.misses, status.contents) == (4, 1, 4)
        assert len(it.source.asked) == 1


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 1 << 40, SMALL[1]),
        (4990, 100, SMALL[1][4990:]),
        (5000, 1, b""),
        (9999, 5, b""),
        (10, 0, b""),
        (10, -1, b""),
        (-1, 5, b""),
    ],
)
async def test_a_read_gives_what_there_is(
    path: Path, world: World, offset: int, length: int, expected: bytes
) -> None:
    async with node(path, world) as it:
        assert await it.read(2, offset, length) == expected
        await it.store.drain()
        assert await it.read(2, offset, length) == expected


async def test_a_second_process_reads_from_the_disk_alone(path: Path, world: World) -> None:
    async with node(path, world) as it:
        await it.read(1)
        await it.read(5)
    world.files.clear()
    async with node(path, world) as it:
        assert [await it.read(n) for n in (1, 2, 3, 4, 5)] == [*SMALL, BIG]
        assert it.source.asked == []


async def test_readers_are_answered_before_anything_is_written(path: Path, world: World) -> None:
    async with node(path, world) as it:
        body = it.open(1)
        async with trio.open_nursery() as readers:
            it.source.script = "h"
            readers.start_soon(body.read, 0, 10)
            await trio.testing.wait_all_tasks_blocked()
            it.source.release.set()
        assert not it.kept(SMALL[0])
        await it.store.drain()
        assert it.kept(SMALL[0])
        body.close()


async def test_a_large_content_is_complete_when_all_its_parts_were_read(
    path: Path, world: World
) -> None:
    async with node(path, world, memory_bytes=1) as it:
        body = it.open(5)
        for start in (400 * KIB, 0, 100 * KIB, 200 * KIB, 300 * KIB):
            expected = BIG[start : start + 100 * KIB]
            assert await body.read(start, 100 * KIB) == expected
            await it.store.drain()
            assert await body.read(start, 100 * KIB) == expected
        assert it.kept(BIG)
        asked = len(it.source.asked)
        assert await body.read(0, len(BIG)) == BIG
        assert asked == len(it.source.asked) == 8
        body.close()


async def test_a_partial_content_goes_on_where_a_former_process_stopped(
    path: Path, world: World
) -> None:
    async with node(path, world) as it:
        await it.read(5, 0, 200 * KIB)
        first = len(it.source.asked)
    async with node(path, world) as it:
        assert await it.read(5) == BIG
        assert len(it.source.asked) == 8 - first
        await it.store.drain()
        assert it.kept(BIG)


async def test_a_complete_partial_content_gets_its_name_from_the_next_process(
    path: Path, world: World
) -> None:
    cache = NodeCache(path, max_bytes=1 << 30, low_water=0.9)
    cache.open()
    content = world.content(5)
    part = PartialFile(cache, content, layout_digest(content))
    part.open()
    for index, extent in enumerate(content.extents):
        part.write(index, BIG[extent.offset : extent.offset + extent.length])
    part.close()
    cache.close()  # as if it had been killed between the last extent and the name
    async with node(path, world) as it:
        assert await it.read(5, 7, 100) == BIG[7:107]
        with trio.fail_after(30):
            while not it.kept(BIG):
                await trio.lowlevel.checkpoint()
        assert it.source.asked == []


async def test_holes_are_zero_and_not_fetched(path: Path) -> None:
    body = bytes(100 * KIB) + patterned(64 * KIB) + bytes(300 * KIB) + b"end" + bytes(61 * KIB)
    world = World()
    number = world.chunked(body, 4 * KIB)
    async with node(path, world) as it:
        assert await it.read(number) == body
        await it.store.drain()
        assert it.kept(body)
        assert await it.read(number, 90 * KIB, 100 * KIB) == body[90 * KIB : 190 * KIB]
        assert len(it.source.asked) == 17


async def test_a_content_of_holes_alone_needs_no_source(path: Path) -> None:
    world = World()
    number = world.add_content(bytes(1000), [])
    async with node(path, world) as it:
        assert await it.read(number) == bytes(1000)
        assert it.source.asked == []


async def test_a_sequential_reader_finds_the_next_objects_on_their_way(
    path: Path, world: World
) -> None:
    async with node(path, world) as it:
        body = it.open(5)
        await body.read(0, 64 * KIB)
        await body.read(64 * KIB, 64 * KIB)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(it.source.asked) == 3
        await body.read(128 * KIB, 64 * KIB)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(it.source.asked) == 5
        assert it.store.misses == 2
        body.close()


async def test_read_ahead_that_fails_is_nobodys_error(
    path: Path, world: World, expect_log: Callable[[str], None]
) -> None:
    expect_log("does not answer")
    async with node(path, world) as it:
        body = it.open(5)
        await body.read(0, 64 * KIB)
        it.source.script = "rEEE"
        await body.read(64 * KIB, 64 * KIB)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await body.read(128 * KIB, 64 * KIB) == BIG[128 * KIB : 192 * KIB]
        body.close()


async def test_one_flipped_bit_is_never_served_or_kept_and_is_named(
    path: Path, world: World, expect_log: Callable[[str], None]
) -> None:
    digest = world.content(1).extents[0].object
    expect_log(rf"object {digest.hex()} from http://scripted.test is damaged")
    world.files[object_path(digest)] = flipped(world.files[object_path(digest)])
    async with node(path, world) as it:
        with pytest.raises(IntegrityError, match=f"{digest.hex()} from http://scripted.test"):
            await it.read(1)
        await it.store.drain()
        assert not it.kept(SMALL[0])
        assert (await it.store.status()).used_bytes == 0
        world.files[object_path(digest)] = flipped(world.files[object_path(digest)])
        assert await it.read(1) == SMALL[0]


@pytest.mark.parametrize(
    ("script", "error"),
    [("m", MissingError), ("E" * 20, TransportError), ("ww", IntegrityError)],
)
async def test_a_failed_read_is_repeated_with_success(
    path: Path,
    world: World,
    expect_log: Callable[[str], None],
    script: str,
    error: type[ThinfsError],
) -> None:
    expect_log("does not answer|is damaged")
    async with node(path, world, read_timeout_s=3) as it:
        it.source.script = script
        with pytest.raises(error):
            await it.read(5, 0, 10)
        it.source.script = ""
        assert await it.read(5, 0, 10) == BIG[:10]


async def test_one_failed_object_of_several_ends_the_read(path: Path, world: World) -> None:
    async with node(path, world) as it:
        it.source.script = "hm"
        with pytest.raises(MissingError):
            await it.read(5, 0, 128 * KIB)
        await trio.testing.wait_all_tasks_blocked()
        assert it.source.running == 0


async def test_a_silent_source_ends_the_read_after_the_configured_time(
    path: Path, world: World
) -> None:
    async with node(path, world, read_timeout_s=0.1) as it:
        it.source.otherwise = "h"
        with pytest.raises(TransportError, match=r"within 0\.1 s"):
            await it.read(5)
        it.source.otherwise = "r"
        assert await it.read(5, 0, 10) == BIG[:10]


async def test_a_catalog_that_names_wrong_bytes_poisons_nobody(
    path: Path, world: World, expect_log: Callable[[str], None]
) -> None:
    victim = SMALL[0]
    expect_log(rf"the catalog is wrong about content {sha256(victim).hex()}")
    expect_log(rf"the extents of content {sha256(BIG).hex()} do not make it up")
    liar = World()
    wrong = liar.add_object(patterned(100, 12345))
    liar.add_content(victim, [Extent(0, 100, wrong, 0)])
    chunks = [liar.add_object(patterned(250 * KIB, seed)) for seed in (1, 2)]
    extents = [Extent(n * 250 * KIB, 250 * KIB, chunk, 0) for n, chunk in enumerate(chunks)]
    liar.add_content(BIG, extents)
    async with node(path, world) as it:
        root = RootContents(liar, (ScriptedSource(liar.files),))
        for number, size in ((1, 100), (2, len(BIG))):
            body = it.store.open(root, number)
            assert await body.read(0, size) != liar.bodies[number]
            await it.store.drain()
            assert not it.kept(liar.bodies[number])
            body.close()
        assert (await it.store.status()).used_bytes == 0
        assert await it.read(1) == victim
        assert await it.read(5) == BIG


@pytest.mark.parametrize(
    "extent",
    [
        Extent(0, 100, sha256(b"unknown object"), 0),
        Extent(0, 100, sha256(patterned(50)), 0),
        Extent(0, 100, sha256(patterned(50)), 1 << 40),
    ],
)
async def test_a_catalog_that_contradicts_itself_is_a_format_error(
    path: Path, extent: Extent, expect_log: Callable[[str], None]
) -> None:
    expect_log("the catalog is wrong about content")
    world = World()
    world.add_object(patterned(50))
    number = world.add_content(patterned(100), [extent])
    async with node(path, world) as it:
        with pytest.raises(FormatError):
            await it.read(number)
        with pytest.raises(FormatError, match="no content 99"):
            it.open(99)


async def test_eviction_while_open_does_not_disturb_the_reader(path: Path, world: World) -> None:
    async with node(path, world, max_bytes=600 * KIB, memory_bytes=1) as it:
        body, big = it.open(4), it.open(5)
        assert await body.read(0, 10) == SMALL[3][:10]
        await it.store.drain()
        assert await body.read(0, 10) == SMALL[3][:10]
        for start in range(0, len(BIG), 64 * KIB):
            await big.read(start, 64 * KIB)
            await it.store.drain()
        others = World()
        for seed in range(20):
            (number,) = others.bundle(patterned(60 * KIB, seed + 1000))
            other = it.store.open(RootContents(others, (ScriptedSource(others.files),)), number)
            await other.read(0, 1)
            other.close()
            await it.store.drain()
        assert not it.kept(SMALL[3])
        assert not it.kept(BIG)
        asked = len(it.source.asked)
        assert await body.read(0, 1 << 20) == SMALL[3]
        assert await big.read(0, 1 << 20) == BIG
        assert len(it.source.asked) == asked
        assert (await it.store.status()).used_bytes <= 600 * KIB
        body.close()
        big.close()
        assert it.store._shared == {}


async def test_a_content_larger_than_the_quota_is_served_and_not_kept(
    path: Path, world: World
) -> None:
    async with node(path, world, max_bytes=400 * KIB) as it:
        assert await it.read(5) == BIG
        await it.store.drain()
        assert (await it.store.status()).used_bytes == 0


async def test_a_truncated_cached_content_is_fetched_again(
    path: Path, world: World, expect_log: Callable[[str], None]
) -> None:
    expect_log("is damaged: it is fetched again")
    async with node(path, world, memory_bytes=1) as it:
        body = it.open(4)
        await body.read(0, 1)
        await it.store.drain()
        assert await body.read(0, 1 << 20) == SMALL[3]
        os.truncate(it.cache.places.file(Kind.CONTENT, sha256(SMALL[3])), 50)
        assert await body.read(0, 1 << 20) == SMALL[3]
        assert await it.read(4) == SMALL[3]
        body.close()


async def test_a_failing_disk_is_reported_once_and_never_fails_a_reader(
    path: Path,
    world: World,
    mock_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    expect_log: Callable[[str], None],
) -> None:
    expect_log("what arrives is (not )?kept")
    async with node(path, world, memory_bytes=1) as it:
        folder = it.cache.places.temporary / it.cache.owner
        folder.rename(folder.with_name("gone"))
        for number in (1, 2, 3):
            assert await it.read(number) == world.bodies[number]
            await it.store.drain()
            mock_clock.jump(PAUSE_S)
        assert [r.levelname for r in caplog.records if "not kept" in r.message] == ["WARNING"]
        assert not it.store.disk.works
        folder.with_name("gone").rename(folder)
        await it.read(4)
        await it.store.drain()
        assert it.store.disk.works
        assert "what arrives is kept in the cache again" in caplog.messages
        assert it.kept(SMALL[3])


async def test_fetches_wait_for_a_slow_disk_and_not_for_one_that_hangs(
    path: Path, mock_clock: MockClock
) -> None:
    world = World()
    numbers = [world.bundle(patterned(100, seed))[0] for seed in range(MAX_WAITING + 5)]
    async with node(path, world) as it, trio.open_nursery() as nursery:
        hangs = threading.Event()
        nursery.start_soon(it.store.disk.run, partial(hangs.wait, 30))
        for number in numbers[:SLOW_DOWN_AT]:
            await it.read(number)
        done: list[bytes] = []

        async def read(number: int) -> None:
            done.append(await it.read(number))

        nursery.start_soon(read, numbers[SLOW_DOWN_AT])
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert done == []
        mock_clock.jump(WAIT_FOR_DISK_S)
        await trio.testing.wait_all_tasks_blocked(0.01)
        for number in numbers[SLOW_DOWN_AT + 1 :]:
            await read(number)  # nothing has moved: nobody waits again
        hangs.set()
        await it.store.drain()
        assert sorted(done) == sorted(world.bodies[n] for n in numbers[SLOW_DOWN_AT:])
        assert it.store.writer.skipped == 4, "one is with the disk, the queue is full"
        assert it.kept(world.bodies[numbers[SLOW_DOWN_AT]])


async def test_without_a_writable_cache_everything_is_still_served(
    tmp_path: Path, world: World
) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with node(tmp_path / "file" / "cache", world) as it:
        assert [await it.read(n) for n in (1, 2, 3, 4, 5)] == [*SMALL, BIG]
        status = await it.store.status()
        assert (status.used_bytes, status.contents) == (0, 0)
        assert not it.store.disk.works


async def test_many_readers_of_many_parts_get_the_right_bytes(path: Path, world: World) -> None:
    async with node(path, world, memory_bytes=100 * KIB) as it:

        async def read(number: int, start: int) -> None:
            data = await it.read(number, start, 3000)
            assert data == world.bodies[number][start : start + 3000]

        async with trio.open_nursery() as readers:
            for start in range(0, len(BIG), 2500):
                readers.start_soon(read, 5, start)
                readers.start_soon(read, 4, start % 70_000)
        assert len(it.source.asked) <= 9
        await it.store.drain()
        assert it.store._shared == {}


async def test_catalogs_are_fetched_once_and_are_files(path: Path, world: World) -> None:
    data = patterned(10_000, 4)
    digest = world.add_object(data)
    world.files[f"catalogs/{digest.hex()[:2]}/{digest.hex()}"] = world.files[object_path(digest)]
    async with node(path, world) as it:
        catalogs = CatalogStore(it.cache, it.store.disk, it.fetcher)
        for _ in range(2):
            file = await catalogs.file(digest, len(data), 5000, [it.source])
            assert file.read_bytes() == data
        assert len(it.source.asked) == 1
        await catalogs.release(digest)


async def test_metadata_images_made_here_are_kept_like_fetched_ones(
    path: Path, world: World
) -> None:
    data = patterned(10_000, 4)
    async with node(path, world) as it:
        images = CatalogStore(it.cache, it.store.disk, it.fetcher, Kind.METADATA)
        for _ in range(2):
            made = it.cache.scratch / "made"
            made.write_bytes(data)
            file = await images.adopt(sha256(data), made)
            assert file == it.cache.places.file(Kind.METADATA, sha256(data))
            assert (file.read_bytes(), file.stat().st_mode) == (data, 0o100444)
        assert await images.file(sha256(data), len(data), 5000, [it.source]) == file
        assert it.source.asked == []
        made.write_bytes(data[1:])
        with pytest.raises(IntegrityError, match="is not metadata"):
            await images.adopt(sha256(b"other"), made)
        await images.release(sha256(data))


async def test_an_object_brings_what_other_roots_have_in_it(path: Path, world: World) -> None:
    other = World()
    other.bundle(b"".join(SMALL))  # the same object, cut otherwise
    gone = World()
    gone.bundle(SMALL[0] + SMALL[1], SMALL[2] + SMALL[3])
    async with node(path, world) as it:
        it.store.join("other", RootContents(other, ()))
        it.store.join("gone", RootContents(gone, ()))
        it.store.leave("gone")
        await it.read(1)
        await it.store.drain()
        assert it.kept(b"".join(SMALL))
        assert all(it.kept(body) for body in SMALL)
        assert not it.kept(SMALL[0] + SMALL[1])


async def test_figures_are_there_for_prometheus(path: Path, world: World) -> None:
    async with node(path, world) as it:
        registry = CollectorRegistry()
        fetch_metrics.register(registry, it.fetcher.counters, trio.current_time)
        cache_metrics.register(registry, it.store, it.cache)
        await it.read(1)
        await it.store.drain()
        await it.read(1)
        await it.store.status()
        text = generate_latest(registry).decode()
        for line in (
            "thinfs_fetch_requests_total 1.0",
            "thinfs_fetch_errors_total 0.0",
            "thinfs_fetch_waiting 0.0",
            "thinfs_cache_hits_total 1.0",
            "thinfs_cache_misses_total 1.0",
            "thinfs_cache_keeps 1.0",
            "thinfs_cache_contents 4.0",
        ):
            assert line in text.splitlines()


async def test_a_body_closed_twice_or_in_the_middle_of_a_read_harms_nobody(
    path: Path, world: World
) -> None:
    async with node(path, world) as it:
        body = it.open(5)
        it.source.otherwise = "h"
        got: list[bytes] = []

        async def read() -> None:
            got.append(await body.read(0, 100))

        async with trio.open_nursery() as readers:
            readers.start_soon(read)
            await trio.testing.wait_all_tasks_blocked(0.01)
            body.close()
            body.close()
            it.source.release.set()
        assert got == [BIG[:100]]
        await it.store.drain()
        assert it.store._shared == {}


async def test_the_same_content_of_two_images_is_kept_once(path: Path, world: World) -> None:
    other = World()
    other.bundle(b"before", SMALL[0])
    async with node(path, world) as it:
        await it.read(1)
        await it.store.drain()
        source = ScriptedSource({})
        body = it.store.open(RootContents(other, (source,)), 2)
        assert await body.read(0, 100) == SMALL[0]
        assert source.asked == []
        body.close()
