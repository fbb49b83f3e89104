"""Catalogs as files of this node: fetched once, verified, kept while a root needs them."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from thinfs.store.layout import catalog_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thinfs.cache.directory import NodeCache
    from thinfs.cache.disk import Disk
    from thinfs.fetch.fetcher import Fetcher
    from thinfs.store.source import Source

log = logging.getLogger(__name__)


class CatalogStore:
    """Files of catalogs.

    Args:
        cache: where they are kept.
        disk: its thread, the one of :class:`thinfs.cache.contents.ContentStore`.
        fetcher: brings those that are not here.
    """

    def __init__(self, cache: NodeCache, disk: Disk, fetcher: Fetcher) -> None:
        self._cache = cache
        self._disk = disk
        self._fetcher = fetcher

    async def file(
        self, digest: bytes, size: int, stored_size: int, sources: Sequence[Source]
    ) -> Path:
        """A file with a catalog, from the cache or else from a repository.

        It is not evicted until :meth:`release`, or until this process ends.

        Args:
            digest: of the SQLite file.
            size: of the SQLite file.
            stored_size: as published.
            sources: repositories to ask, in order.

        Raises:
            StoreError: the disk has no room for it; without its catalog no root is served.
            ThinfsError: as :meth:`thinfs.fetch.fetcher.Fetcher.object`.
        """
        kept = await self._disk.run(partial(self._cache.catalog, digest))
        if kept is not None:
            return kept
        body = await self._fetcher.blob(
            catalog_path(digest), digest, size, stored_size, sources=sources
        )
        log.info("catalog %s: fetched, %d bytes", digest.hex(), size)
        return await self._disk.run(partial(self._cache.add_catalog, digest, body))

    async def release(self, digest: bytes) -> None:
        """Let a catalog be evicted."""
        await self._disk.attempt(partial(self._cache.unpin, digest))
