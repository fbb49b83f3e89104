"""The front door of the node cache: bytes of contents, from wherever they are nearest."""

from __future__ import annotations

import logging
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from thinfs.cache.disk import Disk
from thinfs.cache.objects import MAX_PARALLEL_OBJECTS, Objects, catalog_errors
from thinfs.cache.places import Kind
from thinfs.cache.plan import Piece, ReadAhead, layout_digest, pieces
from thinfs.cache.prefetch import Prefetches
from thinfs.cache.presence import Presence
from thinfs.cache.root import RootContents
from thinfs.cache.shared import SharedContent
from thinfs.cache.watch import Nobody
from thinfs.cache.writer import Writer
from thinfs.control.values import CacheStatus
from thinfs.errors import FormatError, StoreError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from catalog.model import Content
    from thinfs.cache.directory import NodeCache
    from thinfs.cache.watch import Watch
    from thinfs.config import CacheConfig
    from thinfs.fetch.fetcher import Fetcher

__all__ = ["Body", "ContentStore", "RootContents"]

log = logging.getLogger(__name__)

HOUSEKEEPING_S: Final = 10.0
"""How often last uses are written down."""

SETTLE_EVERY: Final = 6
"""Every so many housekeepings the disk is made to hold what was written."""

CLOSE_WITHIN_S: Final = 10.0
"""Longest time that is spent on writing out when the store is closed."""

# The fetcher's own deadline comes first: its message says what the sources answered.
_GRACE_S: Final = 0.5


class Body:
    """One reader's view of one content; made by :meth:`ContentStore.open`."""

    def __init__(
        self, store: ContentStore, root: RootContents, shared: SharedContent, *, told: bool
    ) -> None:
        self._tells = told
        self._store = store
        self._root = root
        self._shared = shared
        self._ahead = ReadAhead()
        self._open = True

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return self._shared.content.size

    async def read(self, offset: int, length: int) -> bytes:
        """Read a range; reads may run in parallel.

        What is on this disk is read on the event loop, without a checkpoint. Everything else
        waits for a repository, at most ``read_timeout_s`` in all.

        Returns:
            Exactly ``length`` bytes, or as many as there are before the end of the content.

        Raises:
            TransportError: no repository could be read in time; a later read tries again.
            IntegrityError: what the repositories hold is damaged.
            MissingError: no repository has it.
            FormatError: the catalog contradicts itself.
        """
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        began = trio.current_time()
        data = self._shared.read_whole(offset, length)
        if data is not None:
            self._store.hits += 1
            self._told(offset, data, began, waited=False)
            return data
        self._shared.users += 1  # close() meanwhile takes nothing away from this read
        try:
            ahead = self._ahead.advance(offset, length)
            data, waited = await self._store.assemble(
                self._root, self._shared, offset, length, ahead
            )
        finally:
            self._store.release(self._shared)
        self._told(offset, data, began, waited=waited)
        return data

    def _told(self, offset: int, data: bytes, began: float, *, waited: bool) -> None:
        if not self._tells:
            return
        content = self._shared.content
        self._store.watch.read(content.digest, offset, len(data), began, waited=waited)
        if offset == 0:
            self._store.begun(self._root, content, data)

    def close(self) -> None:
        """Give the content up; closing twice does nothing."""
        if self._open:
            self._open = False
            self._store.release(self._shared)


class ContentStore:
    """All contents of all roots on this node.

    Args:
        nursery: where writing out, read-ahead and housekeeping run; they end with it.
        cache: opened if its disk can be written; the caller closes it afterwards.
        fetcher: brings what is not here.
        config: ``memory_bytes``.
        watch: hears of what is read and fetched.

    Attributes:
        hits: reads answered from this node.
        misses: reads that waited for a fetch.
        disk: the thread of ``cache``.
        objects: what is in memory.
        writer: what is being written out.
        prefetches: what comes before anybody asks.
        presence: knows what is on this disk.
        begun: called when the beginning of a content was read; must not wait.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        cache: NodeCache,
        fetcher: Fetcher,
        config: CacheConfig,
        watch: Watch | None = None,
    ) -> None:
        self.watch = watch or Nobody()
        self.hits = 0
        self.misses = 0
        self.disk = Disk(works=cache.writable)
        self._roots: dict[str, RootContents] = {}
        self.writer = Writer(cache, self.disk, self.acquire, self.release, self._roots.values)
        self.objects = Objects(nursery, fetcher, config.memory_bytes, self.writer, self.watch)
        self.presence = Presence(cache, self.disk)
        self.prefetches = Prefetches(nursery, self.objects, self.presence)
        self.begun: Callable[[RootContents, Content, bytes], None] = lambda *_: None
        self._nursery = nursery
        self._cache = cache
        self._read_timeout_s = fetcher.read_timeout_s
        self._shared: dict[bytes, SharedContent] = {}
        nursery.start_soon(self.writer.run)
        if cache.writable:
            nursery.start_soon(self._keep_house)

    def open(self, root: RootContents, content_id: int, *, told: bool = True) -> Body:
        """A reader for one content.

        Args:
            root: where to look it up and to fetch it from.
            content_id: its number in the root's catalog, not 0.
            told: whether ``watch`` and ``begun`` hear of what is read: not of our own looks.

        Raises:
            FormatError: the catalog is damaged or has no such content.
        """
        shared = self.acquire(root, content_id)
        self._cache.notes.used(Kind.CONTENT, shared.content.digest)
        return Body(self, root, shared, told=told)

    def join(self, root_id: str, root: RootContents) -> None:
        """Keep what belongs to a root from now on, whoever it was fetched for."""
        self._roots[root_id] = root

    def leave(self, root_id: str) -> None:
        """Keep it no longer; its reader may be closed after the next :meth:`drain`."""
        self.prefetches.stop(root_id)
        self._roots.pop(root_id, None)

    async def status(self) -> CacheStatus:
        """Figures for the control API. Waits for the disk."""
        if self._cache.writable:
            await self.disk.attempt(self._cache.usage)
        used, contents = self._cache.last_usage
        return CacheStatus(
            path=str(self._cache.places.root),
            used_bytes=used,
            max_bytes=self._cache.max_bytes,
            contents=contents,
            hits=self.hits,
            misses=self.misses,
            evictions=self._cache.evictions,
        )

    async def drain(self) -> None:
        """Wait until everything that has arrived is written out, or failed to be."""
        await self.prefetches.stopped()
        await self.writer.idle()

    async def aclose(self) -> None:
        """Write out what has arrived and note last uses; bounded in time, even when cancelled."""
        with trio.move_on_after(CLOSE_WITHIN_S, shield=True):
            await self.drain()
            await self._flush()

    # For bodies and the writer

    def acquire(self, root: RootContents, content_id: int) -> SharedContent:
        """The shared state of a content; give it back with :meth:`release`.

        Raises:
            FormatError: the catalog is damaged or has no such content.
        """
        with catalog_errors():
            content = root.reader.content(content_id)
        layout = layout_digest(content)
        shared = self._shared.get(layout)
        if shared is None:
            kind = Kind.METADATA if content.digest == root.metadata else Kind.CONTENT
            shared = SharedContent(content, layout, self._cache, self.disk, kind)
            self._shared[layout] = shared
        shared.users += 1
        return shared

    def release(self, shared: SharedContent) -> None:
        """Give shared state back; the last one to do so closes its files."""
        shared.users -= 1
        if shared.users == 0:
            shared.close()
            del self._shared[shared.layout]

    async def assemble(
        self, root: RootContents, shared: SharedContent, offset: int, length: int, ahead: int
    ) -> tuple[bytes, bool]:
        """Put a range together from parts on the disk, objects in memory, and fetched ones.

        Args:
            root: where to fetch from.
            shared: the content.
            offset: first byte; the range lies in the content.
            length: bytes, at least 1.
            ahead: objects behind the range to start fetching, too.

        Returns:
            The bytes, and whether anything had to be fetched for them.
        """
        if await shared.look():
            shared.users += 1
            self._nursery.start_soon(self._finish, shared)
        result = bytearray(length)
        parts = list(pieces(shared.content.extents, offset, length))
        missing = [part for part in parts if not self._fill_from_here(result, shared, part)]
        # A reader that keeps to what the profile knows is going to stop where that ends.
        if not all(part.extent.object in root.ordered for part in parts):
            self._read_ahead(root, shared, offset + length, ahead)
        if not missing:
            self.hits += 1
            return bytes(result), False
        self.misses += 1
        with trio.move_on_after(self._read_timeout_s + _GRACE_S):
            await self._fill_from_afar(result, root, missing)
            return bytes(result), True
        raise TransportError(
            f"content {shared.content.digest.hex()}: not all of a read arrived within"
            f" {self._read_timeout_s:g} s"
        )

    # Parts

    def _fill_from_here(self, result: bytearray, shared: SharedContent, part: Piece) -> bool:
        data = self.objects.here(part.extent.object)
        local = shared.read_part(part) if data is None else _cut(data, part)
        if local is None:
            return False
        result[part.target : part.target + part.length] = local
        return True

    async def _fill_from_afar(
        self, result: bytearray, root: RootContents, parts: Sequence[Piece]
    ) -> None:
        by_object: dict[bytes, list[Piece]] = {}
        for part in parts:
            by_object.setdefault(part.extent.object, []).append(part)
        for digests in _in_turns(list(by_object), MAX_PARALLEL_OBJECTS):
            for digest, data in (await self.objects.bring(root, digests)).items():
                for part in by_object[digest]:
                    result[part.target : part.target + part.length] = _cut(data, part)

    def _read_ahead(
        self, root: RootContents, shared: SharedContent, position: int, objects: int
    ) -> None:
        if objects > 0:
            left = shared.content.size - position
            for part in islice(pieces(shared.content.extents, position, left), objects):
                if not shared.has(part.index):
                    self.objects.prefetch(root, part.extent.object)

    async def _keep_house(self) -> None:
        rounds = 0
        while True:
            await trio.sleep(HOUSEKEEPING_S)
            rounds += 1
            await self._flush()
            await self.disk.attempt(self._cache.usage)
            if rounds % SETTLE_EVERY == 0:
                await self.disk.attempt(self._cache.settle)

    async def _flush(self) -> None:
        taken = self._cache.notes.take()
        if (taken.uses or taken.suspects) and self._cache.writable:
            await self.disk.attempt(partial(self._cache.flush, taken))
            self._cache.notes.done(taken)

    async def _finish(self, shared: SharedContent) -> None:
        """Complete what an earlier process has left complete but for its name."""
        try:
            await shared.finish()
        except StoreError as error:
            log.debug("content %s stays a partial one: %s", shared.content.digest.hex(), error)
        finally:
            self.release(shared)


def _cut(data: bytes, part: Piece) -> memoryview:
    start = part.extent.object_offset + part.start
    if start + part.length > len(data):
        raise FormatError(f"the catalog has an extent behind the end of {part.extent.object.hex()}")
    return memoryview(data)[start : start + part.length]


def _in_turns(digests: list[bytes], most: int) -> list[list[bytes]]:
    return [digests[start : start + most] for start in range(0, len(digests), most)]
