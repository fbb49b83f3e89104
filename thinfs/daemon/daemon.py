"""The daemon: one mount for all roots of a node, and the control API that attaches them."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from prometheus_client import CollectorRegistry, generate_latest

import thinfs
from thinfs.cache import metrics as cache_metrics
from thinfs.control import server
from thinfs.control.values import Status
from thinfs.daemon.metrics import MountCollector
from thinfs.daemon.modes import choose
from thinfs.daemon.node import contents_of, open_node
from thinfs.daemon.plain import the_one_error, until_signal
from thinfs.errors import StoreError
from thinfs.fetch import metrics as fetch_metrics
from thinfs.fs.contents import ContentNames
from thinfs.fs.filesystem import FileSystem
from thinfs.fs.forest import Forest
from thinfs.fs.mounting import mounted
from thinfs.fs.mountpoint import MountOptions, prepare_mountpoint, sweep_dead_mounts
from thinfs.roots.places import NATIVE_MODE
from thinfs.roots.probe import WAYS
from thinfs.roots.records import RootRecords
from thinfs.roots.roots import Roots
from thinfs.supervisor.lock import only_one
from thinfs.supervisor.notify import notify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from catalog.reader import CatalogReader
    from thinfs.config import Config, DaemonConfig
    from thinfs.control.values import Root
    from thinfs.daemon.modes import Choice
    from thinfs.daemon.node import Node
    from thinfs.fs.mounting import Serving
    from thinfs.roots.opening import OpenRoot
    from thinfs.roots.probe import Ability
    from thinfs.roots.records import RootRecord

log = logging.getLogger(__name__)

SOCKET_PATH_BYTES: Final = 107
"""Longest path of a unix socket (unix(7))."""


def run(
    config: Config, ready: Callable[[], None] = lambda: None, ways: Sequence[Ability] = WAYS
) -> None:
    """Be the daemon until SIGTERM, SIGINT or SIGHUP arrives, or somebody unmounts the mount.

    Args:
        config: all of it.
        ready: called once, when the mount and the control API answer.
        ways: how native roots may be served, the best one first.

    Raises:
        ThinfsError: it could not start: the message says why.
    """
    with contextlib.ExitStack() as locks:
        _lock(config.daemon, locks)
        try:
            trio.run(_serve, config, ready, ways)
        except BaseExceptionGroup as group:
            raise the_one_error(group) from group


class Daemon:
    """What the control API drives: see :class:`thinfs.control.server.Driven`."""

    def __init__(self, node: Node, roots: Roots, serving: Serving, choice: Choice) -> None:
        self._node = node
        self._roots = roots
        self._serving = serving
        self._choice = choice
        self._started = trio.current_time()
        self._registry = CollectorRegistry()
        adapter = serving.adapter
        self._registry.register(
            MountCollector(adapter.requests, adapter.errors, lambda: len(roots.roots()))
        )
        fetcher = node.fetcher
        fetch_metrics.register(self._registry, fetcher.counters, trio.current_time, fetcher.routes)
        cache_metrics.register(self._registry, node.contents, node.cache)

    async def status(self) -> Status:
        """The daemon at a glance."""
        now = trio.current_time()
        return Status(
            version=thinfs.__version__,
            pid=os.getpid(),
            uptime_s=now - self._started,
            mountpoint=str(self._serving.mountpoint),
            roots=self._roots.roots(),
            cache=await self._node.contents.status(),
            fetch=self._node.fetcher.status(),
            fuse_requests=dict(self._serving.adapter.requests),
            root_mode=self._choice.mode,
            root_mode_reason=self._choice.reason,
        )

    def roots(self) -> list[Root]:
        """What is attached."""
        return self._roots.roots()

    async def attach(self, holder: str, recipe: str) -> Root:
        """See :meth:`thinfs.roots.roots.Roots.attach`."""
        return await self._roots.attach(holder, recipe)

    async def detach(self, holder: str) -> None:
        """See :meth:`thinfs.roots.roots.Roots.detach`."""
        await self._roots.detach(holder)

    def metrics(self) -> bytes:
        """Everything that is counted, as Prometheus text."""
        return generate_latest(self._registry)


class _Shelf:
    """Shows open roots below ``/trees``, and their contents below ``/contents``."""

    def __init__(
        self, node: Node, filesystem: FileSystem, forest: Forest, names: ContentNames
    ) -> None:
        self._node = node
        self._filesystem = filesystem
        self._forest = forest
        self._names = names
        self._shown: set[int] = set()

    def show(self, slot: int, root: OpenRoot) -> None:
        self._shown.add(id(root))
        self._names.attach(root.id, self._node.index(root))
        self._node.contents.join(root.id, contents_of(root))
        root.contents.then(partial(self._plant, slot, root))

    def _plant(self, slot: int, root: OpenRoot, catalog: CatalogReader) -> None:
        if id(root) not in self._shown:  # the catalog came in the moment of hiding
            return
        served = self._node.served(root, catalog)
        self._forest.plant(self._filesystem, slot, root.id, served)

    def hide(self, root: OpenRoot) -> None:
        self._shown.discard(id(root))
        self._node.contents.leave(root.id)
        self._names.detach(root.id)
        self._filesystem.reopen_contents()
        self._forest.fell(self._filesystem, root.id)


async def _serve(config: Config, ready: Callable[[], None], ways: Sequence[Ability]) -> None:
    told = trio.CancelScope()
    async with trio.open_nursery() as nursery, open_node(config) as node:
        # From here on a signal is an order to stop in order, also while we are still starting.
        await nursery.start(until_signal, told)
        mountpoint = await trio.to_thread.run_sync(_mountpoint, Path(config.daemon.mountpoint))
        now_ns = time.time_ns()
        names = ContentNames(now_ns)
        forest = Forest(now_ns, names)
        filesystem = FileSystem(forest.served(), contents=names)
        choice = await choose(node, config.daemon.root_mode, mountpoint, ways)
        options = MountOptions(read_ahead_kib=config.daemon.read_ahead_kib, privileged=True)
        shelf = _Shelf(node, filesystem, forest, names)
        async with (
            _roots(config, node, shelf, choice) as (roots, missing),
            mounted(filesystem, mountpoint, options) as serving,
        ):
            await roots.place_restored()
            for record in missing:
                nursery.start_soon(roots.bring_back, record)
            async with _controlled(config.daemon, Daemon(node, roots, serving, choice)):
                notify("READY=1")
                ready()
                await _until_told_to_stop(serving, told)
                notify("STOPPING=1")
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _roots(
    config: Config, node: Node, shelf: _Shelf, choice: Choice
) -> AsyncIterator[tuple[Roots, list[RootRecord]]]:
    """The roots that were attached before are there before the mount is.

    Gives them, and the records of those whose catalogs must be fetched first.
    """
    records = await trio.to_thread.run_sync(RootRecords, Path(config.daemon.state))
    opener = node.openers(choice.mode == NATIVE_MODE)
    roots = Roots(opener, records, shelf, choice.places)
    try:
        yield roots, await roots.restore()
    finally:
        with trio.CancelScope(shield=True):
            await roots.aclose()


@asynccontextmanager
async def _controlled(config: DaemonConfig, daemon: Daemon) -> AsyncIterator[None]:
    """The control API answers for the block; requests under way may end."""
    stop = trio.Event()
    socket = Path(config.socket)
    async with trio.open_nursery() as nursery:
        listening = server.listen_unix(socket)
        try:
            await nursery.start(server.serve, server.application(daemon), listening, stop)
            if config.metrics:
                tcp = server.listen_tcp(config.metrics)
                await nursery.start(server.serve, server.metrics_application(daemon), tcp, stop)
            yield
        finally:
            stop.set()
            socket.unlink(missing_ok=True)


async def _until_told_to_stop(serving: Serving, told: trio.CancelScope) -> None:
    """Wait for a signal, which cancels ``told``, or for the mount's end."""
    with told:
        await serving.ended.wait()
        log.warning("%s was unmounted by somebody: stopping", serving.mountpoint)


def _lock(config: DaemonConfig, locks: contextlib.ExitStack) -> None:
    socket = Path(config.socket)
    if len(os.fsencode(socket)) > SOCKET_PATH_BYTES:
        raise StoreError(f"{socket}: a socket's path has at most {SOCKET_PATH_BYTES} bytes")
    locks.enter_context(only_one(socket.with_name(f"{socket.name}.lock"), str(socket)))
    locks.enter_context(only_one(Path(config.state) / "lock", f"the state in {config.state}"))


def _mountpoint(mountpoint: Path) -> Path:
    """Sweep, make and check the directory that is mounted on."""
    mountpoint = Path(os.path.abspath(mountpoint))  # noqa: PTH100 - resolve() would ask a dead mount
    sweep_dead_mounts(mountpoint)
    try:
        mountpoint.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{mountpoint}: {error.strerror}") from error
    return prepare_mountpoint(mountpoint)
