"""Catalogs, metadata images and boot records as files of this node.

They are verified, and kept while a root needs them.
"""

from __future__ import annotations

import hashlib
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from thinfs.cache.directory import CONTENT_MODE, write_draft
from thinfs.cache.places import Kind, counted
from thinfs.cache.state import delete_file, store_errors
from thinfs.cache.watch import Nobody
from thinfs.errors import IntegrityError
from thinfs.fetch.gate import Priority
from thinfs.store.layout import boot_path, catalog_path, metadata_path

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from thinfs.cache.directory import NodeCache
    from thinfs.cache.disk import Disk
    from thinfs.cache.watch import Watch
    from thinfs.fetch.fetcher import Fetcher
    from thinfs.store.source import Source

log = logging.getLogger(__name__)

MAX_BYTES_IN_MEMORY: Final = 32 << 20
"""What is larger goes to the disk while it comes."""

PUBLISHED_AS: Final[dict[Kind, Callable[[bytes], str]]] = {
    Kind.CATALOG: catalog_path,
    Kind.METADATA: metadata_path,
    Kind.BOOT: boot_path,
}
"""Where a repository has files of a kind, by digest."""


class CatalogStore:
    """Files of one kind.

    Args:
        cache: where they are kept.
        disk: its thread, the one of :class:`thinfs.cache.contents.ContentStore`.
        fetcher: brings those that are not here.
        kind: ``CATALOG``, ``METADATA`` or ``BOOT``.
        watch: hears of what is fetched.
    """

    def __init__(
        self,
        cache: NodeCache,
        disk: Disk,
        fetcher: Fetcher,
        kind: Kind = Kind.CATALOG,
        watch: Watch | None = None,
    ) -> None:
        self._watch = watch or Nobody()
        self._cache = cache
        self._disk = disk
        self._fetcher = fetcher
        self._kind = kind
        self._arriving: dict[bytes, trio.Lock] = {}

    async def kept(self, digest: bytes) -> Path | None:
        """A file that is here, pinned from now on."""
        return await self._disk.run(partial(kept_catalog, self._cache, digest, self._kind))

    async def file(
        self,
        digest: bytes,
        size: int,
        stored_size: int,
        sources: Sequence[Source],
        priority: Priority = Priority.DEMAND,
    ) -> Path:
        """A file, from the cache or else from a repository.

        It is not evicted until :meth:`release`, or until this process ends.

        Args:
            digest: of the file.
            size: of the file.
            stored_size: as published.
            sources: repositories to ask, in order.
            priority: how urgent it is.

        Raises:
            StoreError: the disk has no room for it; without its catalog no root is served.
            ThinfsError: as :meth:`thinfs.fetch.fetcher.Fetcher.object`.
        """
        kept = await self.kept(digest)
        if kept is not None:
            return kept
        path = PUBLISHED_AS[self._kind](digest)
        began = trio.current_time()
        what = (path, digest, size, stored_size)
        if size <= MAX_BYTES_IN_MEMORY:
            body = await self._fetcher.blob(*what, sources=sources, priority=priority)
            keep = partial(keep_catalog, self._cache, digest, body, self._kind)
            file = await self._disk.run(keep)
        else:
            made = self._cache.scratch / f"arriving-{self._kind}-{digest.hex()}"
            into = partial(self._fetcher.blob_into, made, *what)
            bring = partial(into, sources=sources, priority=priority)
            file = await self._through_a_file(digest, made, bring)
        demanded = priority is Priority.DEMAND
        self._watch.fetched(path, stored_size, began, demanded=demanded)
        log.info("%s %s: fetched, %d bytes", self._kind, digest.hex(), size)
        return file

    async def _through_a_file(
        self, digest: bytes, made: Path, bring: Callable[[], Awaitable[None]]
    ) -> Path:
        """Keep what is too large for memory; it counts in the quota once it is here."""
        lock = self._arriving.setdefault(digest, trio.Lock())
        try:
            async with lock:  # the file has one writer; who comes second finds it kept
                kept = await self.kept(digest)
                if kept is not None:
                    return kept
                try:
                    await bring()
                    keep = partial(adopt, self._cache, digest, made, self._kind)
                    return await self._disk.run(keep)
                finally:
                    made.unlink(missing_ok=True)
        finally:
            if not lock.locked():
                self._arriving.pop(digest, None)

    async def adopt(self, digest: bytes, made: Path) -> Path:
        """Keep a file that was made in the cache's scratch folder, under its digest.

        Raises:
            IntegrityError: ``made`` is not what ``digest`` names.
            StoreError: there is no room for it.
        """
        kept = await self.kept(digest)
        if kept is not None:
            return kept
        return await self._disk.run(partial(adopt, self._cache, digest, made, self._kind))

    def hurry(self, digest: bytes) -> None:
        """Somebody waits for a file that is on its way."""
        self._fetcher.hurry(digest)

    async def pin(self, digest: bytes) -> None:
        """Keep a file from its arrival on, however it comes, until :meth:`release`."""
        await self._disk.attempt(partial(pin, self._cache, digest, self._kind))

    async def release(self, digest: bytes) -> None:
        """Let a file be evicted."""
        await self._disk.attempt(partial(release_catalog, self._cache, digest, self._kind))


def kept_catalog(cache: NodeCache, digest: bytes, kind: Kind = Kind.CATALOG) -> Path | None:
    """The file of a catalog that is here, pinned from now on."""
    path = cache.places.file(kind, digest)
    with cache.state.transaction() as db:
        if not path.exists():
            delete_file(db, kind, digest)
            return None
        _pin(cache, db, kind, digest)
        db.execute(
            "UPDATE files SET last_use_ns = ? WHERE kind = ? AND digest = ?",
            (cache.now_ns(), kind, digest),
        )
    return path


def keep_catalog(cache: NodeCache, digest: bytes, body: bytes, kind: Kind = Kind.CATALOG) -> Path:
    """Keep a catalog and pin it.

    Raises:
        IntegrityError: ``body`` is not what ``digest`` names.
        StoreError: there is no room for it.
    """
    if hashlib.sha256(body).digest() != digest:
        raise IntegrityError(f"these are not the bytes of {kind} {digest.hex()}")
    return _keep(cache, digest, kind, len(body), lambda draft: write_draft(draft, body))


def adopt(cache: NodeCache, digest: bytes, made: Path, kind: Kind) -> Path:
    """Move a file in and pin it; raises as :func:`keep_catalog`."""
    with store_errors(made), made.open("rb") as file:
        if hashlib.file_digest(file, "sha256").digest() != digest:
            raise IntegrityError(f"{made} is not {kind} {digest.hex()}")
        size = os.fstat(file.fileno()).st_size

    def move(draft: str) -> None:
        made.rename(draft).chmod(CONTENT_MODE)

    return _keep(cache, digest, kind, size, move)


def pin(cache: NodeCache, digest: bytes, kind: Kind) -> None:
    """Keep a file that is here or will be."""
    with cache.state.transaction() as db:
        _pin(cache, db, kind, digest)


def release_catalog(cache: NodeCache, digest: bytes, kind: Kind = Kind.CATALOG) -> None:
    """Take this process' pin back."""
    with cache.state.transaction() as db:
        db.execute(
            "DELETE FROM pins WHERE owner = ? AND kind = ? AND digest = ?",
            (cache.owner, kind, digest),
        )


def _keep(
    cache: NodeCache, digest: bytes, kind: Kind, size: int, write: Callable[[str], None]
) -> Path:
    key = (kind, digest)
    with store_errors(cache.places.root):
        # Pinned first: between its appearance and its pin nobody may evict it.
        with cache.state.transaction() as db:
            _pin(cache, db, kind, digest)
        with cache.pending({key: counted(size)}) as drafts:
            write(drafts[key])
    return cache.places.file(*key)


def _pin(cache: NodeCache, db: sqlite3.Connection, kind: Kind, digest: bytes) -> None:
    db.execute(
        "INSERT OR IGNORE INTO pins (owner, kind, digest) VALUES (?, ?, ?)",
        (cache.owner, kind, digest),
    )
