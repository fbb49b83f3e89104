"""The daemon: one mount for all roots of a node, and the control API that attaches them."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

import trio
from prometheus_client import CollectorRegistry, generate_latest

import thinfs
from thinfs.cache import metrics as cache_metrics
from thinfs.control.values import Status, WorkerStatus
from thinfs.daemon.belonging import belonging, paths_of
from thinfs.daemon.metrics import MountCollector
from thinfs.daemon.neighbours import Neighbours
from thinfs.daemon.node import contents_of
from thinfs.daemon.programs import Programs
from thinfs.errors import MissingError
from thinfs.fetch import metrics as fetch_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.model import Content
    from catalog.reader import CatalogReader
    from thinfs.cache.prefetch import Stage
    from thinfs.cache.root import RootContents
    from thinfs.control.values import Root, Trace
    from thinfs.daemon.link import Link
    from thinfs.daemon.modes import Choice
    from thinfs.daemon.node import Node
    from thinfs.fs.contents import ContentNames
    from thinfs.fs.filesystem import FileSystem
    from thinfs.fs.forest import Forest
    from thinfs.fs.mounting import Serving
    from thinfs.roots.expected import Expected
    from thinfs.roots.opening import OpenRoot
    from thinfs.roots.roots import Roots
    from thinfs.supervisor.messages import Handover


class Daemon:
    """What the control API drives: see :class:`thinfs.control.server.Driven`."""

    def __init__(
        self,
        *,
        node: Node,
        roots: Roots,
        serving: Serving,
        choice: Choice,
        link: Link,
        handover: Handover,
        expected: Expected,
    ) -> None:
        self._node = node
        self._expected = expected
        self._roots = roots
        self._serving = serving
        self._choice = choice
        self._link = link
        self._handover = handover
        self._started = trio.current_time()
        self._registry = CollectorRegistry()
        adapter = serving.adapter
        self._registry.register(
            MountCollector(
                adapter.requests, adapter.errors, lambda: len(roots.roots()), adapter.underway
            )
        )
        fetcher = node.fetcher
        fetch_metrics.register(self._registry, fetcher.counters, trio.current_time, fetcher.routes)
        cache_metrics.register(self._registry, node.contents, node.cache)

    async def status(self) -> Status:
        """The daemon at a glance."""
        now = trio.current_time()
        adapter = self._serving.adapter
        return Status(
            version=thinfs.__version__,
            pid=self._handover.supervisor,
            uptime_s=max((time.time_ns() - self._handover.mounted_ns) / 1e9, 0.0),
            mountpoint=str(self._serving.mountpoint),
            roots=self._roots.roots(),
            cache=await self._node.contents.status(),
            fetch=self._node.fetcher.status(),
            fuse_requests=dict(adapter.requests),
            root_mode=self._choice.mode,
            root_mode_reason=self._choice.reason,
            fuse_underway=len(adapter.underway),
            fuse_oldest_s=adapter.underway.oldest_s(),
            worker=self._worker(now),
        )

    def _worker(self, now: float) -> WorkerStatus:
        news = self._link.news
        return WorkerStatus(
            pid=os.getpid(),
            number=self._handover.number,
            uptime_s=now - self._started,
            supervised=not self._link.alone,
            restarts=news.restarts,
            last_end=news.last_end,
            reloads_failed=news.reloads_failed,
            reload_error=news.reload_error,
        )

    def roots(self) -> list[Root]:
        """What is attached."""
        return self._roots.roots()

    async def attach(self, holder: str, recipe: str) -> Root:
        """See :meth:`thinfs.roots.roots.Roots.attach`."""
        root = await self._roots.attach(holder, recipe)
        self._expected.met(root.id)
        return root

    def expect(self, recipe: str) -> None:
        """See :meth:`thinfs.roots.expected.Expected.expect`."""
        self._expected.expect(recipe)

    async def detach(self, holder: str) -> None:
        """See :meth:`thinfs.roots.roots.Roots.detach`."""
        await self._roots.detach(holder)

    async def trace(self, root_id: str) -> Trace:
        """What happened to a root since it was attached.

        Raises:
            MissingError: it is not attached.
        """
        root = self._roots.opened(root_id)
        traces = self._node.traces
        found = None
        if root is not None:
            touched = traces.contents(root_id)
            paths = await paths_of(root.contents, touched)
            found = traces.trace(root_id, belonging(root), paths)
        if found is None:
            raise MissingError(f"no root {root_id} is attached: thinfs status lists those that are")
        return found

    def metrics(self) -> bytes:
        """Everything that is counted, as Prometheus text."""
        return generate_latest(self._registry)


class Shelf:
    """Shows open roots below ``/trees``, and their contents below ``/contents``."""

    def __init__(
        self,
        node: Node,
        filesystem: FileSystem,
        forest: Forest,
        names: ContentNames,
        ahead: Callable[[OpenRoot], list[Stage]],
    ) -> None:
        self._ahead = ahead
        self._programs = Programs(node.contents)
        self._neighbours = Neighbours(node.contents)
        node.contents.begun = self._begun
        self._node = node
        self._filesystem = filesystem
        self._forest = forest
        self._names = names
        self._shown: set[int] = set()

    def show(self, slot: int, root: OpenRoot) -> None:
        """Serve a root's contents, and its tree when its catalog is here."""
        self._shown.add(id(root))
        self._names.attach(root.id, self._node.index(root))
        contents = contents_of(root)
        self._node.contents.join(root.id, contents)
        self._node.contents.prefetches.begin(root.id, contents, self._ahead(root))
        self._programs.attach(root.id, contents)
        self._neighbours.attach(root.id, contents)
        root.contents.then(partial(self._plant, slot, root))

    def _begun(self, root: RootContents, content: Content, head: bytes) -> None:
        self._programs.begun(root, content, head)
        self._neighbours.begun(root, content, head)

    def _plant(self, slot: int, root: OpenRoot, catalog: CatalogReader) -> None:
        if id(root) not in self._shown:  # the catalog came in the moment of hiding
            return
        served = self._node.served(root, catalog)
        self._forest.plant(self._filesystem, slot, root.id, served)

    def hide(self, root: OpenRoot) -> None:
        """Serve them no longer."""
        self._shown.discard(id(root))
        self._programs.detach(contents_of(root))
        self._neighbours.detach(contents_of(root))
        self._node.contents.leave(root.id)
        self._names.detach(root.id)
        self._filesystem.reopen_contents()
        self._forest.fell(self._filesystem, root.id)
