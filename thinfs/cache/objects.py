"""Objects for readers: from memory, or fetched and then handed to the writer."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from catalog.errors import CatalogError
from thinfs.cache.memory import MemoryObjects
from thinfs.cache.writer import Arrival
from thinfs.errors import FormatError, ThinfsError
from thinfs.fetch.gate import Priority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thinfs.cache.root import RootContents
    from thinfs.cache.writer import Writer
    from thinfs.fetch.fetcher import Fetcher

log = logging.getLogger(__name__)

MAX_PARALLEL_OBJECTS: Final = 8
"""Objects that one read waits for at a time."""

MAX_PREFETCHES: Final = 16
"""Objects on their way ahead of all readers together."""


class Objects:
    """Verified objects.

    Args:
        nursery: where read-ahead runs.
        fetcher: brings what is not in memory.
        memory_bytes: how much is kept in memory.
        writer: is given what has been fetched, and knows what is not on the disk yet.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        fetcher: Fetcher,
        memory_bytes: int,
        writer: Writer,
    ) -> None:
        self._nursery = nursery
        self._fetcher = fetcher
        self._memory = MemoryObjects(memory_bytes)
        self._writer = writer
        self._ahead: set[bytes] = set()

    @property
    def memory_bytes(self) -> int:
        """Bytes in memory now."""
        return self._memory.used_bytes

    def here(self, digest: bytes) -> bytes | None:
        """An object from memory, or ``None``."""
        data = self._memory.get(digest)
        return data if data is not None else self._writer.waiting(digest)

    async def bring(self, root: RootContents, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Several objects at once, by digest; the first failure ends the wait for the others.

        Raises:
            FormatError: the catalog names no such object.
            ThinfsError: as :meth:`thinfs.fetch.fetcher.Fetcher.object`.
        """
        if len(digests) == 1:
            return {digests[0]: await self._one(root, digests[0], Priority.DEMAND)}
        found: dict[bytes, bytes] = {}
        failures: list[ThinfsError] = []

        async def bring_one(digest: bytes) -> None:
            try:
                found[digest] = await self._one(root, digest, Priority.DEMAND)
            except ThinfsError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for digest in digests:
                nursery.start_soon(bring_one, digest)
        if failures:
            raise failures[0]
        return found

    def prefetch(self, root: RootContents, digest: bytes) -> None:
        """Start to fetch an object that nobody waits for, unless enough are on their way."""
        known = digest in self._ahead or self.here(digest) is not None
        if not known and len(self._ahead) < MAX_PREFETCHES:
            self._ahead.add(digest)
            self._nursery.start_soon(self._prefetch, root, digest)

    async def _prefetch(self, root: RootContents, digest: bytes) -> None:
        try:
            await self._one(root, digest, Priority.READ_AHEAD)
        except ThinfsError as error:
            log.debug("read-ahead: %s", error)
        finally:
            self._ahead.discard(digest)

    async def _one(self, root: RootContents, digest: bytes, priority: Priority) -> bytes:
        data = self.here(digest)
        if data is not None:
            return data
        await self._writer.room()
        data = self.here(digest)  # it may have come while this waited
        if data is not None:
            return data
        with catalog_errors():
            ref = root.reader.object(digest)
        if ref is None:
            raise FormatError(f"the catalog has an extent in {digest.hex()}, but no such object")
        data = await self._fetcher.object(ref, root.sources, priority)
        if self._memory.put(digest, data):
            self._writer.offer(Arrival(root, digest, data))
        return data


@contextmanager
def catalog_errors() -> Iterator[None]:
    """Turn what a catalog's reader raises inside the block into :class:`FormatError`."""
    try:
        yield
    except CatalogError as error:
        raise FormatError(str(error)) from error
