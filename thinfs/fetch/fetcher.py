"""One verified download for however many readers, from the first source that has it.

The invariants of every wait in here are in docs/concurrency.md.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from thinfs.errors import (
    FormatError,
    IntegrityError,
    MissingError,
    StoreError,
    ThinfsError,
    TransportError,
)
from thinfs.fetch.backoff import jittered_wait_s
from thinfs.fetch.bucket import TokenBucket
from thinfs.fetch.counters import FetchCounters
from thinfs.fetch.download import Downloader, Flight, Wanted
from thinfs.fetch.gate import Gate, Priority, Ticket
from thinfs.fetch.routes import Routes
from thinfs.fetch.verify import stored_bound
from thinfs.store.layout import (
    MAX_CATALOG_BYTES,
    MAX_OBJECT_BYTES,
    MAX_STORED_OBJECT_BYTES,
    object_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from catalog.model import ObjectRef
    from thinfs.config import SourcesConfig
    from thinfs.control.values import FetchStatus
    from thinfs.store.source import Source

log = logging.getLogger(__name__)

SLOWEST_BYTES_PER_S: Final = 64 << 10
"""A blob's deadline is the readers' one and what its bytes take at this rate."""


class Fetcher:
    """Brings objects and catalogs: single flight, priorities, retries, several sources.

    Args:
        nursery: where downloads run; they end with it.
        sources: repositories that are asked before those a call names (``[sources] mirrors``).
        config: attempts, deadlines and numbers of connections.
        pause_s: seconds to wait after a number of failures in a row at one source.

    Attributes:
        counters: what has been counted.
        routes: which repositories and proxies answer.
        read_timeout_s: longest time that a reader of an object waits.

    Raises:
        UsageError: the configuration's list of proxies is malformed.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        sources: Sequence[Source],
        config: SourcesConfig,
        pause_s: Callable[[int], float] = jittered_wait_s,
    ) -> None:
        self.counters = FetchCounters()
        self.routes = Routes(config)
        waits = config.on_outage == "wait"
        self.read_timeout_s = config.outage_timeout_s if waits else config.read_timeout_s
        self._blob_timeout_s = config.read_timeout_s
        self._persistent = config.on_outage != "fail_fast"
        self._nursery = nursery
        self._mirrors = tuple(sources)
        self._gate = Gate(config.connections)
        self._downloader = Downloader(
            config,
            routes=self.routes,
            gate=self._gate,
            bucket=TokenBucket(config.background_bytes_per_s, trio.current_time()),
            counters=self.counters,
            pause_s=pause_s,
        )
        self._flights: dict[bytes, Flight] = {}
        self._waits = itertools.count()

    def status(self) -> FetchStatus:
        """A snapshot for the control API."""
        now = trio.current_time()
        return msgspec.structs.replace(self.counters.status(now), circuits=self.routes.status(now))

    async def object(
        self,
        ref: ObjectRef,
        sources: Sequence[Source],
        priority: Priority = Priority.DEMAND,
    ) -> bytes:
        """Bring one object.

        Args:
            ref: which one.
            sources: repositories to ask, in order, after the mirrors.
            priority: how urgent it is; an object that is on its way already becomes as urgent.

        Returns:
            The uncompressed bytes, verified.

        Raises:
            MissingError: every source answers and none has it.
            IntegrityError: a source has it damaged, and no other one has it.
            TransportError: no source could be read, or the deadline for readers has passed.
            FormatError: the reference itself breaks the format's bounds.
        """
        if not 0 < ref.size <= MAX_OBJECT_BYTES:
            raise FormatError(f"object {ref.digest.hex()} is said to have {ref.size} bytes")
        wanted = Wanted(
            name=f"object {ref.digest.hex()}",
            path=object_path(ref.digest),
            digest=ref.digest,
            size=ref.size,
            max_bytes=min(MAX_STORED_OBJECT_BYTES, stored_bound(ref.size)),
            expected_bytes=min(ref.stored_size, MAX_STORED_OBJECT_BYTES),
            persistent=self._persistent,
        )
        return await self._wait(wanted, sources, priority, self.read_timeout_s)

    async def blob(
        self,
        path: str,
        digest: bytes,
        size: int,
        stored_size: int,
        *,
        sources: Sequence[Source] = (),
        priority: Priority = Priority.DEMAND,
    ) -> bytes:
        """Bring a catalog, or another published file that is one zstd frame.

        Args:
            path: below the repository, as ``thinfs.store.layout`` names it.
            digest: SHA-256 of the uncompressed bytes.
            size: of the uncompressed bytes.
            stored_size: as published: stretches the deadline of large files.
            sources: repositories to ask, in order, after the mirrors.
            priority: how urgent it is.

        Returns:
            The uncompressed bytes, verified.

        Raises:
            ThinfsError: as :meth:`object`.
        """
        wanted = _blob(path, digest, size, stored_size, None)
        return await self._wait(wanted, sources, priority, self._blob_deadline_s(wanted))

    async def blob_into(
        self,
        into: Path,
        path: str,
        digest: bytes,
        size: int,
        stored_size: int,
        *,
        sources: Sequence[Source] = (),
        priority: Priority = Priority.DEMAND,
    ) -> None:
        """The same as :meth:`blob` into a file, with bounded memory.

        Args:
            into: is written anew; one task at a time may bring one blob. What is in there after
                an exception is nothing.
            path: as for :meth:`blob`, and so are all others.
            digest: of the uncompressed bytes.
            size: of the uncompressed bytes.
            stored_size: as published.
            sources: repositories to ask.
            priority: how urgent it is.

        Raises:
            StoreError: ``into`` cannot be written.
            ThinfsError: as :meth:`object`.
        """
        wanted = _blob(path, digest, size, stored_size, into)
        await self._wait(wanted, sources, priority, self._blob_deadline_s(wanted))

    def _blob_deadline_s(self, wanted: Wanted) -> float:
        return self._blob_timeout_s + wanted.expected_bytes / SLOWEST_BYTES_PER_S

    def hurry(self, digest: bytes) -> None:
        """Somebody waits now for what is on its way; what is not is not fetched for that."""
        flight = self._flights.get(digest)
        if flight is not None:
            self._gate.raise_priority(flight.ticket, Priority.DEMAND)

    async def _wait(
        self, wanted: Wanted, sources: Sequence[Source], priority: Priority, deadline_s: float
    ) -> bytes:
        flight = self._join(wanted, (*self._mirrors, *sources), priority)
        wait = next(self._waits)
        self.counters.waiting_since[wait] = trio.current_time()
        try:
            with trio.move_on_after(deadline_s):
                await flight.done.wait()
        finally:
            del self.counters.waiting_since[wait]
            self._leave(flight)
        if flight.data is not None:
            return flight.data
        if flight.done.is_set():
            raise _worst(wanted, flight.failures.values())
        last = "".join(f"; last: {error}" for error in [*flight.failures.values()][-1:])
        raise TransportError(f"{wanted.name}: no answer within {deadline_s:g} s{last}")

    def _join(self, wanted: Wanted, sources: Sequence[Source], priority: Priority) -> Flight:
        flight = self._flights.get(wanted.digest)
        if flight is None or flight.wanted != wanted:
            flight = Flight(wanted, Ticket(priority))
            self._flights[wanted.digest] = flight
            self.counters.requests += 1
            self._nursery.start_soon(self._fly, flight)
        for source in sources:
            flight.sources.setdefault(source.url, source)
        flight.readers += 1
        self._gate.raise_priority(flight.ticket, priority)
        return flight

    def _leave(self, flight: Flight) -> None:
        flight.readers -= 1
        if flight.readers == 0:
            self._land(flight)
            flight.scope.cancel()

    def _land(self, flight: Flight) -> None:
        if self._flights.get(flight.wanted.digest) is flight:
            del self._flights[flight.wanted.digest]

    async def _fly(self, flight: Flight) -> None:
        try:
            with flight.scope:
                flight.data = await self._downloader.bring(flight)
        except StoreError as error:
            flight.failed("", error)
        except Exception as error:  # one strange answer must not end every container's files
            log.exception("%s: unexpected failure", flight.wanted.name)
            flight.failed("", TransportError(f"{flight.wanted.name}: {error!r}"))
        finally:
            # What succeeded can be joined until its last reader has taken it.
            if flight.data is None:
                self._land(flight)
            flight.done.set()


def _worst(wanted: Wanted, failures: Collection[ThinfsError]) -> ThinfsError:
    """The failure its reader should hear of: our disk, then damage, then silence, then absence."""
    for kind in (StoreError, IntegrityError, TransportError, MissingError):
        for failure in failures:
            if isinstance(failure, kind):
                return kind(f"{wanted.name}: {failure}")
    return TransportError(f"{wanted.name}: no source to ask, or thinfs is stopping")


def _blob(path: str, digest: bytes, size: int, stored_size: int, into: Path | None) -> Wanted:
    if not 0 < size <= MAX_CATALOG_BYTES:
        raise FormatError(f"{path} is said to have {size} bytes")
    return Wanted(
        name=path,
        path=path,
        digest=digest,
        size=size,
        max_bytes=stored_bound(size),
        expected_bytes=min(stored_size, size),
        persistent=False,
        into=into,
    )
