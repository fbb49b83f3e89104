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
from thinfs.cache.catalogs import CatalogStore
from thinfs.cache.contents import Body, ContentStore, RootContents
from thinfs.cache.directory import NodeCache
from thinfs.cache.places import Kind
from thinfs.daemon.trace import MAX_EVENTS, MAX_RECORDED, Traces
from thinfs.errors import FormatError, StoreError
from thinfs.fetch.fetcher import Fetcher
from thinfs.fs.filesystem import Served
from thinfs.roots.opening import RootOpener, SourcePool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from thinfs.config import CacheConfig, Config
    from thinfs.roots.contents import RootMap
    from thinfs.roots.opening import OpenRoot

log = logging.getLogger(__name__)

CLEAN_UP_S = 15.0
"""Longest time for writing out and closing connections when a node stops."""


@dataclass(frozen=True, slots=True)
class RootIndex:
    """One root's contents by digest: see :class:`thinfs.fs.contents.ContentIndex`."""

    store: ContentStore
    contents: RootContents
    known: RootMap

    def size(self, digest: bytes, /) -> int | None:
        """Bytes of a content, if the root is known to have it."""
        return self.known.size(digest)

    def digests_from(self, first: bytes, limit: int, /) -> list[bytes]:
        """Digests in order."""
        return self.known.digests_from(first, limit)

    def open(self, digest: bytes, /) -> Body:
        """The body of a content."""
        number = self.known.number(digest)
        if number is None:
            raise FormatError(f"the catalog has no content {digest.hex()} any more")
        return self.store.open(self.contents, number)

    @property
    def complete(self) -> bool:
        """Whether the catalog is here."""
        return self.known.complete

    async def more(self) -> None:
        """Wait for the catalog."""
        await self.known.catalog()


@dataclass(frozen=True, slots=True)
class Node:
    """The parts that all roots of one process share.

    Attributes:
        cache: what this node keeps on disk.
        fetcher: brings objects and catalogs.
        contents: bytes of files.
        traces: what happens to roots.
        openers: gives what opens roots, at once when that is wanted and possible.
    """

    cache: NodeCache
    fetcher: Fetcher
    contents: ContentStore
    traces: Traces
    openers: Callable[[bool], RootOpener]

    def index(self, root: OpenRoot) -> RootIndex:
        """The contents of an open root as the file system finds them."""
        return RootIndex(self.contents, contents_of(root), root.contents)

    def served(self, root: OpenRoot, catalog: CatalogReader) -> Served:
        """An open root's tree as the file system serves it."""
        summary = catalog.summary()
        return Served(
            tree=catalog,
            open_body=partial(self.contents.open, contents_of(root)),
            file_bytes=summary.file_bytes,
            inodes=summary.inodes,
        )


def contents_of(root: OpenRoot) -> RootContents:
    """What the cache needs to know of a root."""
    boot = root.contents.boot
    ordered = boot.ordered if boot is not None else frozenset()
    return RootContents(root.contents, root.sources, root.contents.metadata, ordered)


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
            traces = Traces(most=MAX_RECORDED if config.daemon.recording else MAX_EVENTS)
            contents = ContentStore(nursery, cache, fetcher, config.cache, traces)
            catalogs, boots = (
                CatalogStore(cache, contents.disk, fetcher, kind, traces)
                for kind in (Kind.CATALOG, Kind.BOOT)
            )

            def openers(at_once: bool) -> RootOpener:
                return RootOpener(
                    nursery,
                    catalogs,
                    boots if at_once else None,
                    pool,
                    open_reader=CatalogReader.open,
                    settled=contents.drain,
                    steps=traces,
                )

            try:
                yield Node(cache, fetcher, contents, traces, openers)
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
