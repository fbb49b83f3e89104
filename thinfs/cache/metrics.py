"""The node cache's figures as Prometheus reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from thinfs.cache.contents import ContentStore
    from thinfs.cache.directory import NodeCache


class CacheCollector(Collector):
    """Reads the figures when they are asked for.

    What only the book-keeping knows (bytes used, number of contents) is as old as the last
    housekeeping: a scrape does not wait for the disk.
    """

    def __init__(self, store: ContentStore, cache: NodeCache) -> None:
        self._store = store
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        """All metrics of the cache, at this moment."""
        store, cache = self._store, self._cache
        used, contents = cache.last_usage
        for name, text, count in (
            ("thinfs_cache_hits", "Reads answered from this node.", store.hits),
            ("thinfs_cache_misses", "Reads that waited for a fetch.", store.misses),
            ("thinfs_cache_evictions", "Files removed to make room.", cache.evictions),
            ("thinfs_cache_disk_failures", "Failures of the disk.", store.disk.failures),
            (
                "thinfs_prefetch_bytes",
                "Bytes, as stored, of objects that came before anybody asked.",
                store.objects.ahead_bytes,
            ),
            (
                "thinfs_prefetch_used_bytes",
                "Those that somebody then asked the daemon for, not the cache itself.",
                store.objects.used_bytes,
            ),
            ("thinfs_cache_skipped", "Objects not kept: disk too slow.", store.writer.skipped),
        ):
            yield CounterMetricFamily(name, text, value=count)
        for name, text, value in (
            ("thinfs_cache_keeps", "Whether what arrives is kept.", int(store.disk.works)),
            ("thinfs_cache_used_bytes", "Bytes of the quota in use.", used),
            ("thinfs_cache_max_bytes", "The quota.", cache.max_bytes),
            ("thinfs_cache_contents", "Whole contents kept.", contents),
            ("thinfs_cache_memory_bytes", "Objects in memory.", store.objects.memory_bytes),
        ):
            yield GaugeMetricFamily(name, text, value)


def register(registry: CollectorRegistry, store: ContentStore, cache: NodeCache) -> None:
    """Let ``registry`` show the figures."""
    registry.register(CacheCollector(store, cache))
