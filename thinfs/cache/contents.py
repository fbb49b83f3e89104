"""The front door of the node cache: bytes of contents, from wherever they are nearest."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from thinfs.cache.disk import Disk
from thinfs.cache.memory import MemoryObjects
from thinfs.cache.plan import Piece, ReadAhead, layout_digest, pieces
from thinfs.cache.root import RootContents
from thinfs.cache.shared import SharedContent
from thinfs.cache.writer import Arrival, Writer
from thinfs.control.values import CacheStatus
from thinfs.errors import FormatError, ThinfsError, TransportError
from thinfs.fetch.gate import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from catalog.model import Content
    from thinfs.cache.directory import NodeCache
    from thinfs.config import CacheConfig
    from thinfs.fetch.fetcher import Fetcher

__all__ = ["Body", "ContentStore", "RootContents"]

log = logging.getLogger(__name__)

MAX_PARALLEL_OBJECTS: Final = 8
"""Objects that one read waits for at a time."""

MAX_PREFETCHES: Final = 16
"""Objects on their way ahead of all readers together."""

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

    def __init__(self, store: ContentStore, root: RootContents, shared: SharedContent) -> None:
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
        data = self._shared.read_whole(offset, length)
        if data is not None:
            self._store.hits += 1
            return data
        self._shared.users += 1  # close() meanwhile takes nothing away from this read
        try:
            data = await self._store.assemble(self._root, self._shared, offset, length)
        finally:
            self._store.release(self._shared)
        wanted = self._ahead.advance(offset, length)
        self._store.read_ahead(self._root, self._shared, offset + length, wanted)
        return data

    def close(self) -> None:
        """Give the content up; closing twice does nothing."""
        if self._open:
            self._open = False
            self._store.release(self._shared)


class ContentStore:
    """All contents of all roots on this node.

    Args:
        nursery: where writing out, read-ahead and housekeeping run; they end with it.
        cache: opened, or at least tried: without a writable disk reads go on uncached.
        fetcher: brings what is not here.
        config: ``memory_bytes``.

    Attributes:
        hits: reads answered from this node.
        misses: reads that waited for a fetch.
    """

    def __init__(
        self, nursery: trio.Nursery, cache: NodeCache, fetcher: Fetcher, config: CacheConfig
    ) -> None:
        self.hits = 0
        self.misses = 0
        self.disk = Disk()
        self._nursery = nursery
        self._cache = cache
        self._fetcher = fetcher
        self._memory = MemoryObjects(config.memory_bytes)
        self._shared: dict[bytes, SharedContent] = {}
        self._ahead: set[bytes] = set()
        self._writer = Writer(cache, self.disk, self.acquire, self.release)
        nursery.start_soon(self._writer.run)
        nursery.start_soon(self._keep_house)

    def open(self, root: RootContents, content_id: int) -> Body:
        """A reader for one content.

        Args:
            root: where to look it up and to fetch it from.
            content_id: its number in the root's catalog, not 0.

        Raises:
            CatalogError: the catalog is damaged or has no such content.
        """
        shared = self.acquire(root.reader.content(content_id))
        self._cache.touch(shared.content.digest)
        return Body(self, root, shared)

    async def status(self) -> CacheStatus:
        """Figures for the control API. Waits for the disk."""
        used, contents = await self.disk.attempt(self._cache.usage) or (0, 0)
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
        await self._writer.idle()

    async def aclose(self) -> None:
        """Write out what has arrived and note last uses; bounded in time, even when cancelled."""
        with trio.move_on_after(CLOSE_WITHIN_S, shield=True):
            await self.drain()
            await self.disk.attempt(self._cache.flush)

    # For bodies and the writer

    def acquire(self, content: Content) -> SharedContent:
        """The shared state of a content; give it back with :meth:`release`."""
        key = layout_digest(content)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = SharedContent(content, self._cache, self.disk)
        shared.users += 1
        return shared

    def release(self, shared: SharedContent) -> None:
        """Give shared state back; the last one to do so closes its files."""
        shared.users -= 1
        if shared.users == 0:
            shared.close()
            del self._shared[layout_digest(shared.content)]

    async def assemble(
        self, root: RootContents, shared: SharedContent, offset: int, length: int
    ) -> bytes:
        """Put a range together from parts on the disk, objects in memory, and fetched ones."""
        await shared.look()
        parts = list(pieces(shared.content.extents, offset, length))
        result = bytearray(length)
        missing = [part for part in parts if not self._fill_from_here(result, shared, part)]
        if not missing:
            self.hits += 1
            return bytes(result)
        self.misses += 1
        timeout_s = self._fetcher.read_timeout_s
        with trio.move_on_after(timeout_s + _GRACE_S):
            await self._fill_from_afar(result, root, missing)
            return bytes(result)
        name = shared.content.digest.hex()
        raise TransportError(f"content {name}: not all of a read arrived within {timeout_s:g} s")

    def read_ahead(
        self, root: RootContents, shared: SharedContent, position: int, objects: int
    ) -> None:
        """Start to fetch the objects behind ``position``; nobody waits for them."""
        extents = shared.content.extents
        behind = pieces(extents, position, max(0, shared.content.size - position))
        for _, part in zip(range(objects), behind, strict=False):
            digest = part.extent.object
            here = digest in self._memory or shared.has(part.index) or digest in self._ahead
            if not here and len(self._ahead) < MAX_PREFETCHES:
                self._ahead.add(digest)
                self._nursery.start_soon(self._prefetch, root, digest)

    # Parts

    def _fill_from_here(self, result: bytearray, shared: SharedContent, part: Piece) -> bool:
        data = self._memory.get(part.extent.object)
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
        digests = list(by_object)
        for start in range(0, len(digests), MAX_PARALLEL_OBJECTS):
            some = digests[start : start + MAX_PARALLEL_OBJECTS]
            for digest, data in (await self._objects(root, some)).items():
                for part in by_object[digest]:
                    result[part.target : part.target + part.length] = _cut(data, part)

    async def _objects(self, root: RootContents, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Several objects at once; the first failure ends the others' wait."""
        found: dict[bytes, bytes] = {}
        failures: list[ThinfsError] = []

        async def bring(digest: bytes) -> None:
            try:
                found[digest] = await self._object(root, digest, Priority.DEMAND)
            except ThinfsError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for digest in digests:
                nursery.start_soon(bring, digest)
        if failures:
            raise failures[0]
        return found

    async def _object(self, root: RootContents, digest: bytes, priority: Priority) -> bytes:
        data = self._memory.get(digest)
        if data is None:
            ref = root.reader.object(digest)
            if ref is None:
                raise FormatError(
                    f"the catalog has an extent in {digest.hex()}, but no such object"
                )
            data = await self._fetcher.object(ref, root.sources, priority)
            if self._memory.put(digest, data):
                self._writer.offer(Arrival(root, digest, data))
        return data

    async def _prefetch(self, root: RootContents, digest: bytes) -> None:
        try:
            await self._object(root, digest, Priority.READ_AHEAD)
        except ThinfsError as error:
            log.debug("read-ahead: %s", error)
        finally:
            self._ahead.discard(digest)

    async def _keep_house(self) -> None:
        rounds = 0
        while True:
            await trio.sleep(HOUSEKEEPING_S)
            rounds += 1
            await self.disk.attempt(self._cache.flush)
            if rounds % SETTLE_EVERY == 0:
                await self.disk.attempt(self._cache.settle)


def _cut(data: bytes, part: Piece) -> memoryview:
    start = part.extent.object_offset + part.start
    if start + part.length > len(data):
        raise FormatError(f"the catalog has an extent behind the end of {part.extent.object.hex()}")
    return memoryview(data)[start : start + part.length]
