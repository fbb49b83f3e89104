"""The mount's and the roots' figures as Prometheus reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

    from thinfs.fs.underway import Underway


class MountCollector(Collector):
    """Reads the counters when they are asked for.

    Args:
        requests: requests answered, by operation.
        errors: those that failed, by operation.
        roots: how many are attached.
        underway: requests that are being answered.
    """

    def __init__(
        self,
        requests: Mapping[str, int],
        errors: Mapping[str, int],
        roots: Callable[[], int],
        underway: Underway,
    ) -> None:
        self._requests = requests
        self._errors = errors
        self._roots = roots
        self._underway = underway

    def collect(self) -> Iterator[Metric]:
        """All metrics of the mount, at this moment."""
        yield _by_operation("thinfs_fuse_requests", "Requests answered.", self._requests)
        yield _by_operation("thinfs_fuse_errors", "Requests that failed.", self._errors)
        yield GaugeMetricFamily("thinfs_roots", "Roots attached.", self._roots())
        yield GaugeMetricFamily(
            "thinfs_fuse_underway", "Requests that are being answered.", len(self._underway)
        )
        yield GaugeMetricFamily(
            "thinfs_fuse_oldest_request_seconds",
            "Age of the oldest request that is being answered; 0 when there is none.",
            self._underway.oldest_s(),
        )


def _by_operation(name: str, text: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=["operation"])
    for operation, count in sorted(counts.items()):
        family.add_metric([operation], count)
    return family
