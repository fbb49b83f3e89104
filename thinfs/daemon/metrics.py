"""The mount's and the roots' figures as Prometheus reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric


class MountCollector(Collector):
    """Reads the counters when they are asked for.

    Args:
        requests: requests answered, by operation.
        errors: those that failed, by operation.
        roots: how many are attached.
    """

    def __init__(
        self, requests: Mapping[str, int], errors: Mapping[str, int], roots: Callable[[], int]
    ) -> None:
        self._requests = requests
        self._errors = errors
        self._roots = roots

    def collect(self) -> Iterator[Metric]:
        """All metrics of the mount, at this moment."""
        yield _by_operation("thinfs_fuse_requests", "Requests answered.", self._requests)
        yield _by_operation("thinfs_fuse_errors", "Requests that failed.", self._errors)
        yield GaugeMetricFamily("thinfs_roots", "Roots attached.", self._roots())


def _by_operation(name: str, text: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=["operation"])
    for operation, count in sorted(counts.items()):
        family.add_metric([operation], count)
    return family
