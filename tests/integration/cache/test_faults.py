"""Node caches under kill -9, under several processes, and on full disks."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support import cache_filler, needs
from tests.support.faulty_http import FaultyServer
from tests.support.reading import World, flipped, patterned
from thinfs.cache.contents import ContentStore, RootContents
from thinfs.cache.directory import NodeCache
from thinfs.cache.disk import PAUSE_S
from thinfs.config import CacheConfig, SourcesConfig
from thinfs.errors import IntegrityError, TransportError
from thinfs.fetch.fetcher import Fetcher
from thinfs.store.layout import MAX_OBJECT_BYTES, object_path
from thinfs.store.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

FILLER = Path(cache_filler.__file__)
REPOSITORY = FILLER.parents[2]
KIB, MIB = 1 << 10, 1 << 20


def start_filler(cache: Path, quota: int, seed: int, count: int) -> subprocess.Popen[str]:
    argv = [sys.executable, str(FILLER), str(cache), str(quota), str(seed), str(count)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)


def bytes_on_disk(cache: Path) -> int:
    """Bytes of all files that count, drafts included, at this moment."""
    total = 0
    for folder in ("contents", "partial", "catalogs", "tmp"):
        for where, _, names in os.walk(cache / folder):
            for name in names:
                try:
                    status = os.lstat(os.path.join(where, name))  # noqa: PTH118 - many, quickly
                except FileNotFoundError:
                    continue
                total += min(status.st_size, status.st_blocks * 512)
    return total


def check_consistent(cache: NodeCache) -> None:
    """Every file is right and accounted for, and no row counts what it should not."""
    with cache.state.transaction() as db:
        files = db.execute("SELECT kind, digest, bytes FROM files").fetchall()
        (pending,) = db.execute("SELECT count(*) FROM pending").fetchone()
        (used,) = db.execute("SELECT bytes FROM about").fetchone()
    contents = {digest.hex() for kind, digest, _ in files if kind == "content"}
    assert pending == 0
    assert used == sum(size for _, _, size in files)
    assert used <= cache.max_bytes
    names = set()
    for path in cache.places.contents.rglob("*"):
        if path.is_file():
            names.add(path.name)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert names <= contents
    assert bytes_on_disk(cache.places.root) <= used


@pytest.mark.parametrize("seed", range(6))
def test_a_process_killed_in_the_middle_of_writing_leaves_a_usable_cache(
    tmp_path: Path, seed: int
) -> None:
    path, chance = tmp_path / "cache", random.Random(seed)
    for round_ in range(3):
        filler = start_filler(path, 2 * MIB, 100 * seed + 10 * round_, 1000)
        assert filler.stdout is not None
        for _ in range(chance.randrange(1, 12)):
            assert filler.stdout.readline()
        killer = threading.Timer(chance.random() / 50, filler.kill)  # anywhere in a write
        killer.start()
        filler.stdout.read()
        assert filler.wait() == -signal.SIGKILL
        filler.stdout.close()
        killer.join()
        cache = NodeCache(path, max_bytes=2 * MIB, low_water=0.8)
        cache.open()
        check_consistent(cache)
        body = patterned(5000, 1_000_000 + round_)
        assert cache.add_contents({hashlib.sha256(body).digest(): body}) == 5000
        cache.close()
        assert list((path / "tmp").iterdir()) == []


def test_two_processes_never_exceed_a_tiny_quota_by_more_than_one_object(tmp_path: Path) -> None:
    path, quota = tmp_path / "cache", MIB
    fillers = [start_filler(path, quota, seed, 60) for seed in (0, 30)]  # half of it the same
    most = 0
    while any(filler.poll() is None for filler in fillers):
        most = max(most, bytes_on_disk(path))
    for filler in fillers:
        assert filler.wait() == 0
        assert filler.stdout is not None
        assert len(filler.stdout.read().splitlines()) == 60
        filler.stdout.close()
    assert quota // 2 < most <= quota + MAX_OBJECT_BYTES
    cache = NodeCache(path, max_bytes=quota, low_water=0.8)
    cache.open()
    check_consistent(cache)
    cache.close()


@pytest.fixture
def small_disk(folder: Path) -> Path:
    """An ext4 of 16 MiB; ``folder`` unmounts it."""
    needs.root()
    image = folder / "disk.img"
    image.write_bytes(b"")
    os.truncate(image, 16 * MIB)
    subprocess.run([needs.command("mkfs.ext4", "e2fsprogs"), "-q", "-m0", image], check=True)
    (folder / "disk").mkdir()
    subprocess.run(["mount", "-o", "loop", image, folder / "disk"], check=True)
    return folder / "disk"


async def test_on_a_full_disk_reads_go_on_uncached_until_there_is_room(
    small_disk: Path,
    mock_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    expect_log: Callable[[str], None],
) -> None:
    expect_log("what arrives is (not )?kept in the cache")
    world = World()
    numbers = [world.chunked(patterned(3 * MIB, n), MIB) for n in range(4)]
    numbers += world.bundle(*(patterned(10_000, n) for n in range(50)))
    cache = NodeCache(small_disk / "cache", max_bytes=1 << 30, low_water=0.9)
    cache.open()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(5 * MIB))
    with FaultyServer(world.files) as server:
        async with trio.open_nursery() as nursery:
            source = open_source(server.url, SourcesConfig())
            fetcher = Fetcher(nursery, [], SourcesConfig(), pause_s=lambda _: 0.0)
            store = ContentStore(nursery, cache, fetcher, CacheConfig(memory_bytes=1))
            root = RootContents(world, (source,))

            async def read_all() -> None:
                for number in numbers:
                    body = store.open(root, number)
                    for place in range(0, body.size, MIB):
                        data = await body.read(place, MIB)
                        assert data == world.bodies[number][place : place + MIB]
                    body.close()
                    await store.drain()

            await read_all()
            assert not store.disk.works
            await read_all()
            warnings = [text for text in caplog.messages if "not kept" in text]
            assert len(warnings) == 1
            assert "No space left" in warnings[0] or "full" in warnings[0]
            ballast.unlink()
            mock_clock.jump(PAUSE_S)
            await read_all()
            assert store.disk.works
            await store.aclose()
            await source.aclose()
            nursery.cancel_scope.cancel()
    check_consistent(cache)
    cache.close()


async def test_a_stored_object_with_one_flipped_byte_is_named_and_never_served(
    folder: Path, expect_log: Callable[[str], None]
) -> None:
    world = World()
    body = patterned(3 * MIB)
    number = world.chunked(body, MIB)
    bad = world.content(number).extents[1].object
    world.files[object_path(bad)] = flipped(world.files[object_path(bad)], 1000)
    world.write(folder / "repo")
    url = (folder / "repo").as_uri()
    expect_log(f"object {bad.hex()} from {url} is damaged")
    cache = NodeCache(folder / "cache", max_bytes=1 << 30, low_water=0.9)
    cache.open()
    async with trio.open_nursery() as nursery:
        fetcher = Fetcher(nursery, [], SourcesConfig())
        store = ContentStore(nursery, cache, fetcher, CacheConfig())
        opened = store.open(RootContents(world, (open_source(url, SourcesConfig()),)), number)
        assert await opened.read(0, MIB) == body[:MIB]
        with pytest.raises(IntegrityError, match=f"{bad.hex()} from {url}"):
            await opened.read(MIB - 1, 2)
        assert await opened.read(2 * MIB, MIB) == body[2 * MIB :]
        await store.drain()
        opened.close()
        nursery.cancel_scope.cancel()
    cache.close()
    damaged = world.files[object_path(bad)]
    for path in (folder / "cache").rglob("*"):
        assert not path.is_file() or damaged not in path.read_bytes()


async def test_a_server_that_stops_in_the_middle_fails_the_read_in_time_and_a_new_one_serves_it(
    tmp_path: Path, expect_log: Callable[[str], None]
) -> None:
    expect_log("repository http://127.0.0.1:[0-9]+/repo does not answer")
    world = World()
    number = world.chunked(patterned(3 * MIB), MIB)
    config = SourcesConfig(timeout_s=5, connect_timeout_s=1, read_timeout_s=10, attempts=2)
    cache = NodeCache(tmp_path / "cache", max_bytes=1 << 30, low_water=0.9)
    cache.open()
    async with trio.open_nursery() as nursery:
        fetcher = Fetcher(nursery, [], config)
        store = ContentStore(nursery, cache, fetcher, CacheConfig())
        with FaultyServer(world.files, "rh") as server:
            source = open_source(server.url, config)
            body = store.open(RootContents(world, (source,)), number)
            assert await body.read(0, 10) == world.bodies[number][:10]
            async with trio.open_nursery() as readers:

                async def read() -> None:
                    with trio.fail_after(11), pytest.raises(TransportError):
                        await body.read(MIB, 10)

                readers.start_soon(read)
                while len(server.requests) < 2:
                    await trio.lowlevel.checkpoint()
                server.stop()
        with FaultyServer(world.files, port=server.port):
            assert await body.read(MIB, 10) == world.bodies[number][MIB : MIB + 10]
        body.close()
        await store.aclose()
        await source.aclose()
        nursery.cancel_scope.cancel()
    cache.close()
