"""One download: from route to route, attempt to attempt, until the right bytes are here."""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from thinfs.errors import FormatError, IntegrityError, MissingError, StoreError, TransportError
from thinfs.fetch.gate import Priority
from thinfs.fetch.routes import Host
from thinfs.fetch.verify import Expected, verified, verified_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thinfs.config import SourcesConfig
    from thinfs.errors import ThinfsError
    from thinfs.fetch.bucket import TokenBucket
    from thinfs.fetch.counters import FetchCounters
    from thinfs.fetch.gate import Gate, Ticket
    from thinfs.fetch.routes import Journey, Route, Routes
    from thinfs.store.source import Source

log = logging.getLogger(__name__)

INLINE_BYTES: Final = 48 << 10
"""What is decompressed and hashed on the loop: a hop to a thread would take longer."""

ROUND_S: Final = 1.0
"""When nothing answers, a download looks again after this time, and a little more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a download must bring.

    Attributes:
        name: for people: kind and digest.
        path: below the repository.
        digest: SHA-256 of the uncompressed bytes.
        size: of the uncompressed bytes.
        max_bytes: most stored bytes that are accepted.
        expected_bytes: stored bytes that will come, probably.
        persistent: when nothing answers, all sources are asked again until nobody waits.
        into: the file that the uncompressed bytes go to; ``None``: they stay in memory.
    """

    name: str
    path: str
    digest: bytes
    size: int
    max_bytes: int
    expected_bytes: int = field(compare=False)
    persistent: bool
    into: Path | None = None


@dataclass(slots=True, eq=False)
class Flight:
    """One download under way. ``done`` is set once, by the task that flies it.

    Attributes:
        sources: by address, the preferred one first; readers who join may add some.
        data: what was wanted; empty when it went into a file.
        failures: the last one of each source, the latest at the end.
        charged: bytes that the bucket has been charged with for what is under way.
    """

    wanted: Wanted
    ticket: Ticket
    sources: dict[str, Source] = field(default_factory=dict)
    readers: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    data: bytes | None = None
    failures: dict[str, ThinfsError] = field(default_factory=dict)
    charged: int = 0

    def failed(self, url: str, error: ThinfsError) -> None:
        """Take note of a source's failure."""
        self.failures.pop(url, None)
        self.failures[url] = error


class Downloader:
    """Carries flights out.

    Args:
        config: numbers of attempts, and what happens when nothing answers.
        routes: which source is asked, through which proxy.
        gate: who may use the network.
        bucket: how much of it those may use for whom nobody waits.
        counters: what is counted.
        pause_s: seconds to wait after a number of failures in a row.
    """

    def __init__(
        self,
        config: SourcesConfig,
        *,
        routes: Routes,
        gate: Gate,
        bucket: TokenBucket,
        counters: FetchCounters,
        pause_s: Callable[[int], float],
    ) -> None:
        self._routes = routes
        self._gate = gate
        self._bucket = bucket
        self._counters = counters
        self._attempts = config.attempts
        self._fail_fast = config.on_outage == "fail_fast"
        self._pause_s = pause_s
        self._verifying = trio.CapacityLimiter(os.cpu_count() or 1)

    async def bring(self, flight: Flight) -> bytes | None:
        """Bring what is wanted, or ``None`` with the flight's failures.

        Raises:
            StoreError: the file that it goes to cannot be written.
        """
        final: set[str] = set()
        for number in itertools.count(1):
            data = await self._round(flight, final)
            unknown = flight.sources.keys() - final
            if data is not None or not unknown or not flight.wanted.persistent:
                return data
            log.debug("%s: nothing answers, round %d", flight.wanted.name, number)
            await trio.sleep(ROUND_S + self._pause_s(1))
        raise AssertionError("rounds do not end")

    async def _round(self, flight: Flight, final: set[str]) -> bytes | None:
        """Take every route once; adds to ``final`` whose answer no further round would change."""
        # Of many downloads that wait for the same server one asks it, and the others not at all.
        considerate = flight.wanted.persistent or self._fail_fast
        journey = self._routes.journey(flight.wanted.digest, considerate=considerate)
        while route := journey.next(_hosts(flight, final), trio.current_time()):
            url = route.host.url
            try:
                return await self._on(route, flight, journey)
            except (MissingError, IntegrityError) as error:
                final.add(url)
                flight.failed(url, error)
                log.debug("%s", error)
            except TransportError as error:
                journey.failed(route, error, trio.current_time())
                flight.failed(url, error)
                log.debug("%s", error)
        for url in flight.sources.keys() - flight.failures.keys():
            reason = self._routes.last_error(url)
            flight.failed(url, TransportError(f"{url} has just failed, not asked again: {reason}"))
        return None

    async def _on(self, route: Route, flight: Flight, journey: Journey) -> bytes:
        """All attempts on one route."""
        source = flight.sources[route.host.url]
        failures, fresh = 0, False
        while True:
            try:
                return await self._attempt(route, flight, journey, fresh=fresh)
            except MissingError:
                self._counters.errors += 1
                raise
            except IntegrityError as error:
                self._counters.errors += 1
                self._counters.integrity_errors += 1
                log.warning("%s", error)
                if fresh or not source.behind_caches:
                    raise
                fresh = True
            except TransportError as error:
                self._counters.errors += 1
                failures += 1
                if failures >= self._attempts or error.retry_after_s:
                    raise
                await trio.sleep(self._pause_s(failures))
            self._counters.retries += 1

    async def _attempt(
        self, route: Route, flight: Flight, journey: Journey, *, fresh: bool
    ) -> bytes:
        try:
            if flight.wanted.into is not None:
                return await self._to_file(route, flight, journey, fresh=fresh)
            return await self._to_memory(route, flight, journey, fresh=fresh)
        except FormatError as error:
            journey.answered(route, trio.current_time())
            damaged = f"{flight.wanted.name} from {route.host.url} is damaged: {error}"
            raise IntegrityError(damaged) from error
        except MissingError:
            journey.answered(route, trio.current_time())
            raise
        except OSError as error:
            raise StoreError(f"{flight.wanted.into}: {error.strerror}") from error

    async def _to_memory(
        self, route: Route, flight: Flight, journey: Journey, *, fresh: bool
    ) -> bytes:
        wanted, source = flight.wanted, flight.sources[route.host.url]
        await self._below_the_cap(flight)
        async with self._gate.slot(flight.ticket):
            frame = await source.get(wanted.path, wanted.max_bytes, fresh=fresh, proxy=route.proxy)
        self._arrived(route, flight, journey, len(frame))
        check = partial(
            verified,
            frame,
            digest=wanted.digest,
            size=wanted.size,
            name=wanted.name,
            source=source.url,
        )
        if wanted.size <= INLINE_BYTES:
            return check()
        return await trio.to_thread.run_sync(check, limiter=self._verifying)

    async def _to_file(
        self, route: Route, flight: Flight, journey: Journey, *, fresh: bool
    ) -> bytes:
        wanted, source = flight.wanted, flight.sources[route.host.url]
        assert wanted.into is not None
        await self._below_the_cap(flight)
        # The frame waits beside its target, in a file without a name: nothing is left behind.
        with tempfile.TemporaryFile(dir=wanted.into.parent) as frame:
            async with self._gate.slot(flight.ticket):
                count = await source.copy(
                    wanted.path, wanted.max_bytes, frame, fresh=fresh, proxy=route.proxy
                )
            self._arrived(route, flight, journey, count)
            expected = Expected(wanted.digest, wanted.size, wanted.name, source.url)
            check = partial(verified_file, frame, wanted.into, expected)
            await trio.to_thread.run_sync(check, limiter=self._verifying)
        return b""

    async def _below_the_cap(self, flight: Flight) -> None:
        """Wait until this may use the network besides readers; one who waits for it ends that."""
        while flight.ticket.priority is not Priority.DEMAND:
            now = trio.current_time()
            pause_s = self._bucket.wait_s(now)
            if not pause_s:
                flight.charged = flight.wanted.expected_bytes
                self._bucket.take(flight.charged, now)
                return
            with trio.move_on_after(pause_s):
                await flight.ticket.raised.wait()

    def _arrived(self, route: Route, flight: Flight, journey: Journey, count: int) -> None:
        now = trio.current_time()
        journey.answered(route, now)
        self._counters.bytes += count
        if flight.charged:
            self._bucket.take(count - flight.charged, now)
            flight.charged = 0


def _hosts(flight: Flight, final: set[str]) -> list[Host]:
    # Proxies and caches are the same thing here: both are on the way of HTTP only.
    return [
        Host(url, source.behind_caches)
        for url, source in flight.sources.items()
        if url not in final
    ]
