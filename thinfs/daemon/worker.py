"""The worker's process: what the supervisor starts, again and again.

Its one argument is the number of a descriptor, on which it is handed the mount.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from thinfs import config as configuration
from thinfs import logs
from thinfs.control import server
from thinfs.daemon.daemon import Daemon, Shelf
from thinfs.daemon.link import Link, inherit
from thinfs.daemon.modes import choose, native_folder
from thinfs.daemon.node import open_node
from thinfs.daemon.plain import the_one_error
from thinfs.daemon.stages import nothing_ahead, stages
from thinfs.errors import ThinfsError, UsageError
from thinfs.fs import mountinfo
from thinfs.fs.contents import ContentNames
from thinfs.fs.filesystem import FileSystem
from thinfs.fs.forest import Forest
from thinfs.fs.mountpoint import unmount
from thinfs.fs.takeover import negotiated, served
from thinfs.fs.tuning import read_ahead, tune
from thinfs.roots.expected import Expected
from thinfs.roots.places import NATIVE_MODE, sweep
from thinfs.roots.probe import WAYS
from thinfs.roots.records import RootRecords
from thinfs.roots.roots import Roots
from thinfs.supervisor.messages import Channel, Failed, Left, Prepared, Serving, Unmounted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from thinfs.config import Config
    from thinfs.daemon.link import Inheritance
    from thinfs.daemon.modes import Choice
    from thinfs.daemon.node import Node
    from thinfs.fs.takeover import Session
    from thinfs.roots.probe import Ability
    from thinfs.roots.records import RootRecord

log = logging.getLogger(__name__)


def main(ways: Sequence[Ability] = WAYS) -> int:
    """Be a worker; gives its exit code.

    Args:
        ways: how native roots may be served, the best one first.
    """
    channel = Channel(socket.socket(fileno=int(sys.argv[-1])))
    try:
        given = inherit(channel)
        alone = run(_config(given), given, channel, ways)
    except ThinfsError as error:
        channel.tell(Failed(type(error).__name__, str(error)))
        return error.exit_code
    if alone:
        _clean_up(given)
    return 0


def run(config: Config, given: Inheritance, channel: Channel, ways: Sequence[Ability]) -> bool:
    """Serve the mount that the supervisor keeps, until it says otherwise or the mount is gone.

    Args:
        config: all of it.
        given: the mount and the control socket.
        channel: to the supervisor.
        ways: how native roots may be served, the best one first.

    Returns:
        Whether the supervisor is gone, so that the mount is this process's to clean up.

    Raises:
        ThinfsError: it could not start: the message says why.
    """
    try:
        return trio.run(_run, config, given, channel, ways)
    except BaseExceptionGroup as group:
        raise the_one_error(group) from group


async def _run(
    config: Config, given: Inheritance, channel: Channel, ways: Sequence[Ability]
) -> bool:
    link = Link(channel, given)
    async with trio.open_nursery() as nursery:
        # From here on an order to end is heeded as soon as it can be.
        await nursery.start(link.run)
        async with open_node(config) as node:
            mounted_ns = given.handover.mounted_ns
            inherits = bool(given.handover.answered)
            names = ContentNames(mounted_ns, inherits=inherits)
            forest = Forest(mounted_ns, names)
            filesystem = FileSystem(forest.served(), contents=names)
            async with negotiated(filesystem, given.handover.init) as session:
                choice = await choose(
                    node,
                    config.daemon.root_mode,
                    Path(given.handover.mountpoint),
                    ways,
                    inherited=inherits,
                    recording=config.daemon.recording,
                )
                ahead = partial(stages, pieces=choice.in_pieces, fill=config.cache.fill)
                shown = nothing_ahead if config.daemon.recording else ahead
                shelf = Shelf(node, filesystem, forest, names, shown)
                link.tell(Prepared())
                if await link.may_go():
                    await _Worker(config, given, link, node, choice, shelf).serve(session)
        nursery.cancel_scope.cancel()
    return link.alone


@dataclass(frozen=True, slots=True)
class _Worker:
    """A worker that has everything and does not read the device yet."""

    config: Config
    given: Inheritance
    link: Link
    node: Node
    choice: Choice
    shelf: Shelf

    async def serve(self, session: Session) -> None:
        """Serve until told to end, or the mount is gone."""
        link, handover = self.link, self.given.handover
        if not handover.answered:
            self._answer(session)
        async with self._roots() as (roots, missing):
            async with (
                served(session, self.given.device, Path(handover.mountpoint)) as serving,
                trio.open_nursery() as nursery,
            ):
                mount = mountinfo.at(serving.mountpoint)[-1]
                native = self.choice.mode == NATIVE_MODE
                tune(mount.device, read_ahead(self.config.daemon.read_ahead_kib, native=native))
                for record in [*missing, *await roots.place_restored()]:
                    nursery.start_soon(roots.bring_back, record)
                daemon = Daemon(
                    node=self.node,
                    roots=roots,
                    serving=serving,
                    choice=self.choice,
                    link=link,
                    handover=handover,
                    expected=Expected(nursery, roots),
                )
                async with self._controlled(daemon):
                    link.tell(Serving(session.answer))
                    with link.told:
                        await serving.ended.wait()
                        log.warning("%s was unmounted by somebody: stopping", serving.mountpoint)
                        link.tell(Unmounted())
                nursery.cancel_scope.cancel()
                if link.leaving:
                    await serving.leave(link.leaving.grace_s)
            if link.leaving:
                link.tell(Left())

    def _answer(self, session: Session) -> None:
        """Give the kernel libfuse's answer to FUSE_INIT, unless a worker that died has."""
        with suppress(FileNotFoundError):
            os.write(self.given.device, session.answer)
        self.link.answered = session.answer

    @asynccontextmanager
    async def _roots(self) -> AsyncIterator[tuple[Roots, list[RootRecord]]]:
        """The roots that were attached before are there before the mount is served.

        Gives them, and the records of those whose catalogs must be fetched first.
        """
        records = await trio.to_thread.run_sync(RootRecords, Path(self.config.daemon.state))
        places, traces = self.choice.places, self.node.traces
        roots = Roots(self.node.openers(True), records, self.shelf, places, traces)
        try:
            missing = await roots.restore()
            await trio.to_thread.run_sync(self._sweep_unknown, records)
            yield roots, missing
        finally:
            with trio.CancelScope(shield=True):
                await roots.aclose(keep_places=self.link.leaving is not None)

    def _sweep_unknown(self, records: RootRecords) -> None:
        """Detach what a killed worker had no time to detach. In a thread."""
        folder = native_folder(Path(self.given.handover.mountpoint))
        sweep(folder, keep={record.id for record in records.load()})

    @asynccontextmanager
    async def _controlled(self, daemon: Daemon) -> AsyncIterator[None]:
        """The control API answers for the block; requests under way may end."""
        stop = trio.Event()
        # The socket stays the supervisor's: who connects between two workers waits in its queue.
        listening = self.given.listening.dup()
        metrics = self.config.daemon.metrics
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(server.serve, server.application(daemon), listening, stop)
                if metrics:
                    tcp, only = server.listen_tcp(metrics), server.metrics_application(daemon)
                    await nursery.start(server.serve, only, tcp, stop)
                yield
            finally:
                stop.set()


def _config(given: Inheritance) -> Config:
    """The configuration as it is now, with what is the supervisor's as the supervisor has it."""
    logs.configure(given.handover.log_level or "INFO")
    config = configuration.load()
    logs.configure(given.handover.log_level or config.daemon.log_level)
    daemon = replace(
        config.daemon,
        mountpoint=given.handover.mountpoint,
        state=given.handover.state,
        socket=str(given.listening.getsockname()),
    )
    return replace(config, daemon=daemon)


def _clean_up(given: Inheritance) -> None:
    """Do what the supervisor would have done."""
    with suppress(UsageError):
        unmount(Path(given.handover.mountpoint))
    Path(given.listening.getsockname()).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
