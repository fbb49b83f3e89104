"""The fetcher's counters and circuits as Prometheus reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from thinfs.fetch.counters import FetchCounters
    from thinfs.fetch.routes import Routes


class FetchCollector(Collector):
    """Reads the counters when they are asked for; nothing is counted twice.

    Args:
        counters: of one :class:`thinfs.fetch.fetcher.Fetcher`.
        now: the clock of its event loop (``trio.current_time``).
        routes: of the same; ``None``: circuits are not shown.
    """

    def __init__(
        self, counters: FetchCounters, now: Callable[[], float], routes: Routes | None = None
    ) -> None:
        self._counters = counters
        self._now = now
        self._routes = routes

    def collect(self) -> Iterator[Metric]:
        """All metrics of the fetcher, at this moment."""
        status = self._counters.status(self._now())
        for name, text, count in (
            ("thinfs_fetch_requests", "Objects and catalogs asked for.", status.requests),
            ("thinfs_fetch_bytes", "Bytes received, compressed.", status.bytes),
            ("thinfs_fetch_errors", "Attempts that failed.", status.errors),
            ("thinfs_fetch_retries", "Attempts repeated.", self._counters.retries),
            ("thinfs_fetch_integrity_errors", "Wrong bytes received.", status.integrity_errors),
        ):
            yield CounterMetricFamily(name, text, value=count)
        yield GaugeMetricFamily("thinfs_fetch_waiting", "Reads that wait now.", status.waiting)
        yield GaugeMetricFamily(
            "thinfs_fetch_oldest_wait_seconds", "Age of the oldest wait.", status.oldest_wait_s
        )
        yield from self._circuits()

    def _circuits(self) -> Iterator[Metric]:
        labels = ("kind", "address")
        up = GaugeMetricFamily("thinfs_source_up", "Whether it answered last.", labels=labels)
        failed = CounterMetricFamily(
            "thinfs_source_failures", "How often all attempts failed.", labels=labels
        )
        for circuit in self._routes.status(self._now()) if self._routes else ():
            up.add_metric((circuit.kind, circuit.address), float(circuit.ok))
            failed.add_metric((circuit.kind, circuit.address), circuit.failures)
        yield up
        yield failed


def register(
    registry: CollectorRegistry,
    counters: FetchCounters,
    now: Callable[[], float],
    routes: Routes | None = None,
) -> None:
    """Let ``registry`` show the counters, and the circuits where ``routes`` is given."""
    registry.register(FetchCollector(counters, now, routes))
