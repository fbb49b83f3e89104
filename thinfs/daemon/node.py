"""What serves roots, without a mount: sources, fetcher, node cache, catalogs."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from catalog.reader import CatalogReader
from thinfs.cache.catalogs import CatalogStore, kept_catalog
from thinfs.cache.contents import Body, ContentStore, RootContents
from thinfs.cache.directory import NodeCache
from thinfs.errors import FormatError, StoreError
from thinfs.fetch.fetcher import Fetcher
from thinfs.fs.filesystem import Served
from thinfs.roots.opening import RootOpener, SourcePool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from thinfs.config import CacheConfig, Config
    from thinfs.roots.opening import OpenRoot
    from thinfs.store.source import Source

log = logging.getLogger(__name__)

CLEAN_UP_S = 15.0
"""Longest time for writing out and closing connections when a node stops."""


class Catalogs:
    """Catalogs in the node cache, as :class:`thinfs.roots.opening.Catalogs` wants them."""

    def __init__(self, cache: NodeCache, contents: ContentStore, fetcher: Fetcher) -> None:
        self._cache = cache
        self._contents = contents
        self._store = CatalogStore(cache, contents.disk, fetcher)

    async def kept(self, digest: bytes, /) -> Path | None:
        """The file of a catalog that is here."""
        return await self._contents.disk.run(partial(kept_catalog, self._cache, digest))

    async def file(
        self, digest: bytes, size: int, stored_size: int, sources: Sequence[Source], /
    ) -> Path:
        """The same; what is not here is fetched."""
        return await self._store.file(digest, size, stored_size, sources)

    async def release(self, digest: bytes, /) -> None:
        """Let a catalog go when room is needed."""
        await self._store.release(digest)

    async def settled(self) -> None:
        """What has arrived is written out with the help of its root's reader: wait for that."""
        await self._contents.drain()


@dataclass(frozen=True, slots=True)
class RootIndex:
    """One root's contents by digest: see :class:`thinfs.fs.contents.ContentIndex`."""

    store: ContentStore
    contents: RootContents
    reader: CatalogReader

    def size(self, digest: bytes, /) -> int | None:
        """Bytes of a content, if the root has it."""
        number = self.reader.content_id(digest)
        return None if number is None else self.reader.content(number).size

    def digests_from(self, first: bytes, limit: int, /) -> list[bytes]:
        """Digests in order."""
        return self.reader.digests_from(first, limit)

    def open(self, digest: bytes, /) -> Body:
        """The body of a content."""
        number = self.reader.content_id(digest)
        if number is None:
            raise FormatError(f"the catalog has no content {digest.hex()} any more")
        return self.store.open(self.contents, number)


@dataclass(frozen=True, slots=True)
class Node:
    """The parts that all roots of one process share.

    Attributes:
        cache: what this node keeps on disk.
        fetcher: brings objects and catalogs.
        contents: bytes of files.
        opener: opens roots.
    """

    cache: NodeCache
    fetcher: Fetcher
    contents: ContentStore
    opener: RootOpener

    def index(self, root: OpenRoot) -> RootIndex:
        """The contents of an open root as the file system finds them."""
        return RootIndex(self.contents, RootContents(root.reader, root.sources), root.reader)

    def served(self, root: OpenRoot) -> Served:
        """An open root as the file system serves it."""
        contents = RootContents(root.reader, root.sources)
        summary = root.reader.summary()
        return Served(
            tree=root.reader,
            open_body=partial(self.contents.open, contents),
            file_bytes=summary.file_bytes,
            inodes=summary.inodes,
        )


@asynccontextmanager
async def open_node(config: Config) -> AsyncIterator[Node]:
    """Everything that serving roots needs, for the block.

    A cache that cannot be written is a warning: reads go on, nothing is kept.
    """
    cache = await trio.to_thread.run_sync(_open_cache, config.cache)
    pool = SourcePool(config.sources, config.repository)
    try:
        async with trio.open_nursery() as nursery:
            fetcher = Fetcher(nursery, pool.mirrors(), config.sources)
            contents = ContentStore(nursery, cache, fetcher, config.cache)
            catalogs = Catalogs(cache, contents, fetcher)
            opener = RootOpener(catalogs, pool, CatalogReader.open)
            try:
                yield Node(cache, fetcher, contents, opener)
            finally:
                await contents.aclose()
                nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(CLEAN_UP_S, shield=True):
            await pool.aclose()
            await trio.to_thread.run_sync(cache.close)


def _open_cache(config: CacheConfig) -> NodeCache:
    path = Path(config.path)
    cache = NodeCache(path, max_bytes=config.max_bytes, low_water=config.low_water)
    try:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        cache.open()
    except StoreError as error:
        log.warning("the cache cannot be written, nothing is kept: %s", error)
    return cache
