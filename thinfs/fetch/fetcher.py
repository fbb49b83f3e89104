"""One verified download for however many readers, from the first source that has it.

The invariants of every wait in here are in docs/concurrency.md.
"""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from thinfs.errors import FormatError, IntegrityError, MissingError, ThinfsError, TransportError
from thinfs.fetch.backoff import jittered_wait_s
from thinfs.fetch.counters import FetchCounters
from thinfs.fetch.gate import Gate, Priority, Ticket
from thinfs.fetch.health import Health
from thinfs.fetch.verify import stored_bound, verified
from thinfs.store.layout import (
    MAX_CATALOG_BYTES,
    MAX_OBJECT_BYTES,
    MAX_STORED_OBJECT_BYTES,
    object_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from catalog.model import ObjectRef
    from thinfs.config import SourcesConfig
    from thinfs.store.source import Source

log = logging.getLogger(__name__)

SLOWEST_BYTES_PER_S: Final = 64 << 10
"""A blob's deadline is the readers' one and what its bytes take at this rate."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a download must bring.

    Attributes:
        name: for people: kind and digest.
        path: below the repository.
        digest: SHA-256 of the uncompressed bytes.
        size: of the uncompressed bytes.
        max_bytes: most stored bytes that are accepted.
    """

    name: str
    path: str
    digest: bytes
    size: int
    max_bytes: int


@dataclass(slots=True, eq=False)
class _Flight:
    """One download under way. ``done`` is set once, by the task that flies it."""

    wanted: Wanted
    sources: list[Source]
    ticket: Ticket
    readers: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    data: bytes | None = None
    failures: list[ThinfsError] = field(default_factory=list)


class Fetcher:
    """Brings objects and catalogs: single flight, priorities, retries, several sources.

    Args:
        nursery: where downloads run; they end with it.
        sources: repositories that are asked before those a call names (``[sources] mirrors``).
        config: attempts, deadlines and numbers of connections.
        pause_s: seconds to wait after a number of failures in a row at one source.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        sources: Sequence[Source],
        config: SourcesConfig,
        pause_s: Callable[[int], float] = jittered_wait_s,
    ) -> None:
        self.counters = FetchCounters()
        self.read_timeout_s = config.read_timeout_s
        self._nursery = nursery
        self._mirrors = tuple(sources)
        self._attempts = config.attempts
        self._gate = Gate(config.connections)
        self._health = Health()
        self._verifying = trio.CapacityLimiter(os.cpu_count() or 1)
        self._pause_s = pause_s
        self._flights: dict[bytes, _Flight] = {}
        self._waits = itertools.count()

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
        if not 0 < size <= MAX_CATALOG_BYTES:
            raise FormatError(f"{path} is said to have {size} bytes")
        wanted = Wanted(path, path, digest, size, stored_bound(size))
        deadline_s = self.read_timeout_s + min(stored_size, size) / SLOWEST_BYTES_PER_S
        return await self._wait(wanted, sources, priority, deadline_s)

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
            raise _worst(wanted, flight.failures)
        last = f"; last: {flight.failures[-1]}" if flight.failures else ""
        raise TransportError(f"{wanted.name}: no answer within {deadline_s:g} s{last}")

    def _join(self, wanted: Wanted, sources: Sequence[Source], priority: Priority) -> _Flight:
        flight = self._flights.get(wanted.digest)
        if flight is None or flight.wanted != wanted:
            flight = _Flight(wanted, [], Ticket(priority))
            self._flights[wanted.digest] = flight
            self.counters.requests += 1
            self._nursery.start_soon(self._fly, flight)
        known = {source.url for source in flight.sources}
        for source in sources:
            if source.url not in known:
                known.add(source.url)
                flight.sources.append(source)
        flight.readers += 1
        self._gate.raise_priority(flight.ticket, priority)
        return flight

    def _leave(self, flight: _Flight) -> None:
        flight.readers -= 1
        if flight.readers == 0:
            self._land(flight)
            flight.scope.cancel()

    def _land(self, flight: _Flight) -> None:
        if self._flights.get(flight.wanted.digest) is flight:
            del self._flights[flight.wanted.digest]

    async def _fly(self, flight: _Flight) -> None:
        try:
            with flight.scope:
                flight.data = await self._from_any(flight)
        except Exception as error:  # one strange answer must not end every container's files
            log.exception("%s: unexpected failure", flight.wanted.name)
            flight.failures.append(TransportError(f"{flight.wanted.name}: {error!r}"))
        finally:
            # What succeeded can be joined until its last reader has taken it.
            if flight.data is None:
                self._land(flight)
            flight.done.set()

    async def _from_any(self, flight: _Flight) -> bytes | None:
        tried: set[str] = set()
        # Readers who join may bring more sources, so what is left is looked at each time.
        while left := [source for source in flight.sources if source.url not in tried]:
            source = self._health.first(left, trio.current_time())
            tried.add(source.url)
            try:
                return await self._from_one(flight, source)
            except (MissingError, IntegrityError, TransportError) as error:
                log.debug("%s", error)
                flight.failures.append(error)
        return None

    async def _from_one(self, flight: _Flight, source: Source) -> bytes:
        failures, fresh = 0, False
        while True:
            try:
                return await self._attempt(flight, source, fresh=fresh)
            except IntegrityError as error:
                self.counters.integrity_errors += 1
                log.warning("%s", error)
                if fresh or not source.behind_caches:
                    raise
                fresh = True
            except TransportError as error:
                failures += 1
                if failures == self._attempts:
                    self._health.failed(source, trio.current_time(), error)
                    raise
                await trio.sleep(self._pause_s(failures))
            self.counters.retries += 1

    async def _attempt(self, flight: _Flight, source: Source, *, fresh: bool) -> bytes:
        wanted = flight.wanted
        try:
            async with self._gate.slot(flight.ticket):
                frame = await source.get(wanted.path, wanted.max_bytes, fresh=fresh)
            self._health.answered(source)
            self.counters.bytes += len(frame)
            check = partial(
                verified,
                frame,
                digest=wanted.digest,
                size=wanted.size,
                name=wanted.name,
                source=source.url,
            )
            return await trio.to_thread.run_sync(check, limiter=self._verifying)
        except FormatError as error:
            self.counters.errors += 1
            damaged = f"{wanted.name} from {source.url} is damaged: {error}"
            raise IntegrityError(damaged) from error
        except MissingError:
            self._health.answered(source)
            self.counters.errors += 1
            raise
        except ThinfsError:
            self.counters.errors += 1
            raise


def _worst(wanted: Wanted, failures: Sequence[ThinfsError]) -> ThinfsError:
    """The failure its reader should hear of: damage, then silence, then absence."""
    for kind in (IntegrityError, TransportError, MissingError):
        for failure in failures:
            if isinstance(failure, kind):
                return kind(f"{wanted.name}: {failure}")
    if failures:
        return failures[0]
    return TransportError(f"{wanted.name}: no source to ask, or thinfs is stopping")
