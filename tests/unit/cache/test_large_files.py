"""Catalogs and metadata images too large for memory: to the disk while they come."""

from __future__ import annotations

import resource
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import zstandard

from tests.support.reading import ScriptedSource, sha256
from thinfs.cache.catalogs import MAX_BYTES_IN_MEMORY, CatalogStore
from thinfs.cache.contents import ContentStore
from thinfs.cache.directory import NodeCache
from thinfs.config import CacheConfig, SourcesConfig
from thinfs.errors import IntegrityError, StoreError
from thinfs.fetch.fetcher import Fetcher
from thinfs.store.layout import catalog_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

BODY = bytes(MAX_BYTES_IN_MEMORY) + b"larger than what is kept in memory"
DIGEST = sha256(BODY)
FRAME = zstandard.compress(BODY)


@asynccontextmanager
async def catalogs(path: Path, max_bytes: int = 1 << 30) -> AsyncIterator[CatalogStore]:
    cache = NodeCache(path, max_bytes=max_bytes, low_water=0.9)
    cache.open()
    try:
        async with trio.open_nursery() as nursery:
            fetcher = Fetcher(nursery, [], SourcesConfig(), pause_s=lambda _: 0.0)
            contents = ContentStore(nursery, cache, fetcher, CacheConfig())
            yield CatalogStore(cache, contents.disk, fetcher)
            assert list(cache.scratch.glob("arriving-*")) == []
            await contents.aclose()
            nursery.cancel_scope.cancel()
    finally:
        cache.close()


async def test_a_large_catalog_comes_once_for_all_who_want_it(tmp_path: Path) -> None:
    source = ScriptedSource({catalog_path(DIGEST): FRAME}, "h")
    files: list[Path] = []

    async def want(store: CatalogStore) -> None:
        files.append(await store.file(DIGEST, len(BODY), len(FRAME), [source]))

    async with catalogs(tmp_path) as store:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(want, store)
            with trio.fail_after(10):
                while not source.asked:
                    await trio.sleep(0.001)
            source.release.set()
        assert len(files) == 5
        assert {file.read_bytes() for file in files} == {BODY}
        assert len(source.asked) == 1


async def test_it_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    body = bytes(8 * MAX_BYTES_IN_MEMORY)
    source = ScriptedSource({catalog_path(sha256(body)): zstandard.compress(body)})
    digest, size = sha256(body), len(body)
    del body
    async with catalogs(tmp_path) as store:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        file = await store.file(digest, size, size, [source])
        assert file.stat().st_size == size
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MAX_BYTES_IN_MEMORY >> 10  # KiB


async def test_wrong_bytes_are_not_kept_and_the_next_source_is_asked(
    tmp_path: Path, expect_log: Callable[[str], None]
) -> None:
    expect_log("is damaged")
    other = BODY[:-1] + b"!"
    bad = [
        ScriptedSource({catalog_path(DIGEST): frame}, url=f"http://bad{number}")
        for number, frame in enumerate(
            (zstandard.compress(other), FRAME[: len(FRAME) // 2], zstandard.compress(b"short"))
        )
    ]
    good = ScriptedSource({catalog_path(DIGEST): FRAME}, url="http://good")
    async with catalogs(tmp_path) as store:
        with pytest.raises(IntegrityError, match="is damaged"):
            await store.file(DIGEST, len(BODY), len(FRAME), bad)
        assert await store.kept(DIGEST) is None
        file = await store.file(DIGEST, len(BODY), len(FRAME), [*bad, good])
        assert file.read_bytes() == BODY


async def test_a_reader_who_leaves_leaves_nothing_behind(tmp_path: Path) -> None:
    source = ScriptedSource({catalog_path(DIGEST): FRAME}, "h")
    async with catalogs(tmp_path) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.file, DIGEST, len(BODY), len(FRAME), [source])
            with trio.fail_after(10):
                while not source.asked:
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        file = await store.file(DIGEST, len(BODY), len(FRAME), [source])
        assert file.read_bytes() == BODY


@pytest.mark.expects_log("what is in use leaves no room")
async def test_a_catalog_larger_than_the_cache_is_a_clear_failure(tmp_path: Path) -> None:
    source = ScriptedSource({catalog_path(DIGEST): FRAME})
    async with catalogs(tmp_path, max_bytes=MAX_BYTES_IN_MEMORY // 2) as store:
        with pytest.raises(StoreError):
            await store.file(DIGEST, len(BODY), len(FRAME), [source])
