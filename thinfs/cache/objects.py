"""Objects for readers: from memory, or fetched and then handed to the writer."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from catalog.errors import CatalogError
from thinfs.cache.memory import MemoryObjects
from thinfs.cache.writer import Arrival
from thinfs.errors import FormatError, ThinfsError
from thinfs.fetch.gate import Priority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.model import ObjectRef
    from thinfs.cache.root import RootContents
    from thinfs.cache.watch import Watch
    from thinfs.cache.writer import Writer
    from thinfs.fetch.fetcher import Fetcher

log = logging.getLogger(__name__)

MAX_PARALLEL_OBJECTS: Final = 8
"""Objects that one read waits for at a time."""

MAX_PREFETCHES: Final = 16
"""Objects on their way ahead of all readers together."""


MAX_UNASKED: Final = 1 << 16
"""Objects fetched ahead of which it is remembered that nobody has asked for them."""


@dataclass(slots=True)
class _Flight:
    """An object on its way.

    Attributes:
        began: when.
        waiting: who waits for it.
        demanded: whether a reader does.
        ahead: whether somebody does who is no reader.
        landed: whether it is here.
    """

    began: float
    waiting: int = 0
    demanded: bool = False
    ahead: bool = False
    landed: bool = False


class Objects:
    """Verified objects.

    Args:
        nursery: where read-ahead runs.
        fetcher: brings what is not in memory.
        memory_bytes: how much is kept in memory.
        writer: is given what has been fetched, and knows what is not on the disk yet.
        watch: hears of what comes.

    Attributes:
        ahead_bytes: bytes of objects, as stored, that came before anybody asked for them.
        last_demand: when somebody waited last, by the event loop's clock.
        used_bytes: those of them that somebody then asked this process for. What the kernel
            reads from the cache by itself is not seen, and not among them.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        fetcher: Fetcher,
        memory_bytes: int,
        writer: Writer,
        watch: Watch,
    ) -> None:
        self.ahead_bytes = 0
        self.used_bytes = 0
        self.last_demand = -math.inf
        self._nursery = nursery
        self._fetcher = fetcher
        self._memory = MemoryObjects(memory_bytes)
        self._writer = writer
        self._ahead: set[bytes] = set()
        self._watch = watch
        self._flights: dict[bytes, _Flight] = {}
        self._unasked: OrderedDict[bytes, int] = OrderedDict()

    @property
    def memory_bytes(self) -> int:
        """Bytes in memory now."""
        return self._memory.used_bytes

    def here(self, digest: bytes) -> bytes | None:
        """An object from memory, or ``None``, for somebody who needs it now."""
        data = self._memory.get(digest)
        if data is None:
            data = self._writer.waiting(digest)
        if data is not None and self._unasked:
            self.used_bytes += self._unasked.pop(digest, 0)
        return data

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
        known = digest in self._ahead or self.has(digest)
        if not known and len(self._ahead) < MAX_PREFETCHES:
            self._ahead.add(digest)
            self._nursery.start_soon(self._prefetch, root, digest)

    async def ahead(self, root: RootContents, digest: bytes, priority: Priority) -> None:
        """Bring an object that nobody waits for; raises as :meth:`bring`."""
        await self._one(root, digest, priority)

    async def _prefetch(self, root: RootContents, digest: bytes) -> None:
        try:
            await self._one(root, digest, Priority.READ_AHEAD)
        except ThinfsError as error:
            log.debug("read-ahead: %s", error)
        finally:
            self._ahead.discard(digest)

    async def _one(self, root: RootContents, digest: bytes, priority: Priority) -> bytes:
        found = self.here if priority is Priority.DEMAND else self._peek
        data = found(digest)
        if data is not None:
            return data
        await self._writer.room()
        data = found(digest)  # it may have come while this waited
        if data is not None:
            return data
        with catalog_errors():
            ref = root.reader.object(digest)
        if ref is None:
            raise FormatError(f"the catalog has an extent in {digest.hex()}, but no such object")
        with self._flight(ref, priority):
            data = await self._fetcher.object(ref, root.sources, priority)
        if self._memory.put(digest, data):
            self._writer.offer(Arrival(root, digest, data))
        return data

    def has(self, digest: bytes) -> bool:
        """Whether an object is in memory; nobody needs it for that."""
        return digest in self._memory or self._writer.waiting(digest) is not None

    def _peek(self, digest: bytes) -> bytes | None:
        """An object that is here, for somebody who only wants it to be."""
        data = self._writer.waiting(digest)
        return data if data is not None else self._memory.get(digest)

    @contextmanager
    def _flight(self, ref: ObjectRef, priority: Priority) -> Iterator[None]:
        """Note what is fetched within the block, once however many wait for it."""
        flight = self._flights.setdefault(ref.digest, _Flight(trio.current_time()))
        flight.waiting += 1
        flight.demanded |= priority is Priority.DEMAND
        flight.ahead |= priority is not Priority.DEMAND
        if priority is Priority.DEMAND:
            self.last_demand = trio.current_time()
        try:
            yield
            self._landed(ref, flight)
        finally:
            if priority is Priority.DEMAND:
                self.last_demand = trio.current_time()
            flight.waiting -= 1
            if flight.waiting == 0:
                del self._flights[ref.digest]

    def _landed(self, ref: ObjectRef, flight: _Flight) -> None:
        if flight.landed:
            return
        flight.landed = True
        demanded = flight.demanded
        self._watch.fetched(ref.digest, ref.stored_size, flight.began, demanded=demanded)
        if flight.ahead:
            self.ahead_bytes += ref.stored_size
            if demanded:
                self.used_bytes += ref.stored_size
            else:
                self._unasked[ref.digest] = ref.stored_size
                if len(self._unasked) > MAX_UNASKED:
                    self._unasked.popitem(last=False)


@contextmanager
def catalog_errors() -> Iterator[None]:
    """Turn what a catalog's reader raises inside the block into :class:`FormatError`."""
    try:
        yield
    except CatalogError as error:
        raise FormatError(str(error)) from error
