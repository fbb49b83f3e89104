"""Catalogs as files of this node: fetched once, verified, kept while a root needs them."""

from __future__ import annotations

import hashlib
import logging
from functools import partial
from typing import TYPE_CHECKING

from thinfs.cache.directory import write_draft
from thinfs.cache.places import Kind, counted
from thinfs.cache.state import delete_file, store_errors
from thinfs.errors import IntegrityError
from thinfs.store.layout import catalog_path

if TYPE_CHECKING:
    import sqlite3
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
        kept = await self._disk.run(partial(kept_catalog, self._cache, digest))
        if kept is not None:
            return kept
        body = await self._fetcher.blob(
            catalog_path(digest), digest, size, stored_size, sources=sources
        )
        log.info("catalog %s: fetched, %d bytes", digest.hex(), size)
        return await self._disk.run(partial(keep_catalog, self._cache, digest, body))

    async def release(self, digest: bytes) -> None:
        """Let a catalog be evicted."""
        await self._disk.attempt(partial(release_catalog, self._cache, digest))


def kept_catalog(cache: NodeCache, digest: bytes) -> Path | None:
    """The file of a catalog that is here, pinned from now on."""
    path = cache.places.file(Kind.CATALOG, digest)
    with cache.state.transaction() as db:
        if not path.exists():
            delete_file(db, Kind.CATALOG, digest)
            return None
        _pin(cache, db, digest)
        db.execute(
            "UPDATE files SET last_use_ns = ? WHERE kind = 'catalog' AND digest = ?",
            (cache.now_ns(), digest),
        )
    return path


def keep_catalog(cache: NodeCache, digest: bytes, body: bytes) -> Path:
    """Keep a catalog and pin it.

    Raises:
        IntegrityError: ``body`` is not what ``digest`` names.
        StoreError: there is no room for it.
    """
    if hashlib.sha256(body).digest() != digest:
        raise IntegrityError(f"these are not the bytes of catalog {digest.hex()}")
    key = (Kind.CATALOG, digest)
    with store_errors(cache.places.root):
        # Pinned first: between its appearance and its pin nobody may evict it.
        with cache.state.transaction() as db:
            _pin(cache, db, digest)
        with cache.pending({key: counted(len(body))}) as drafts:
            write_draft(drafts[key], body)
    return cache.places.file(*key)


def release_catalog(cache: NodeCache, digest: bytes) -> None:
    """Take this process' pin back."""
    with cache.state.transaction() as db:
        db.execute(
            "DELETE FROM pins WHERE owner = ? AND kind = 'catalog' AND digest = ?",
            (cache.owner, digest),
        )


def _pin(cache: NodeCache, db: sqlite3.Connection, digest: bytes) -> None:
    db.execute(
        "INSERT OR IGNORE INTO pins (owner, kind, digest) VALUES (?, 'catalog', ?)",
        (cache.owner, digest),
    )
