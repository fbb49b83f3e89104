"""The worker's end of what supervisor and worker say to each other."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from msgspec.structs import replace

from thinfs.errors import StoreError
from thinfs.fs import mountinfo
from thinfs.supervisor import orphan
from thinfs.supervisor.messages import (
    BEAT_S,
    Alive,
    Channel,
    Closed,
    Estate,
    Go,
    Handover,
    Leave,
    News,
    Stop,
)

if TYPE_CHECKING:
    from thinfs.supervisor.messages import Order, Word

log = logging.getLogger(__name__)

ALONE_GRACE_S: Final = 1.0
"""How long requests may take when a signal, not the supervisor, tells the worker to leave."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a worker is given.

    Attributes:
        handover: the mount, and who keeps it.
        device: descriptor of /dev/fuse.
        listening: the control socket.
    """

    handover: Handover
    device: int
    listening: socket.socket


def inherit(channel: Channel) -> Inheritance:
    """Wait for what the supervisor sends first; a spare worker may wait for ever.

    Raises:
        StoreError: it sends something else, or is gone.
    """
    select.select([channel], [], [])
    try:
        order, descriptors = channel.hear_order()
    except Closed:
        raise StoreError("the supervisor is gone") from None
    if not isinstance(order, Handover) or len(descriptors) != 2:
        raise StoreError("the supervisor hands over something else than a mount")
    device, listening = descriptors
    return Inheritance(order, device, socket.socket(fileno=listening))


class Link:
    """Shows that this worker's loop turns, and hears orders.

    Args:
        channel: to the supervisor.
        given: what goes to the next one when this one is killed.

    Attributes:
        told: a scope, cancelled when the worker is to end; enter it where that is to be heeded.
        leaving: how it is to end: leaving everything to the next worker, or ``None``: unmounting
            what it has mounted.
        alone: the supervisor is gone.
        news: what the supervisor has told last.
        answered: what the kernel was answered to FUSE_INIT; empty: nothing yet.
    """

    def __init__(self, channel: Channel, given: Inheritance) -> None:
        self._channel = channel
        self._given = given
        self._may_read = trio.Event()
        self.told = trio.CancelScope()
        self.leaving: Leave | None = None
        self.alone = False
        self.news = News()
        self.answered = given.handover.answered

    def tell(self, word: Word) -> None:
        """Say something to the supervisor, if there is one."""
        if not self._channel.tell(word) and not self.alone:
            log.debug("the supervisor does not hear %s", type(word).__name__)

    async def may_go(self) -> bool:
        """Wait until nobody else reads the device; ``False`` when the worker is to end."""
        await self._may_read.wait()
        return not self.told.cancel_called

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Beat and hear until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._heed_signals)
            nursery.start_soon(self._beat)
            nursery.start_soon(self._hear)
            task_status.started()

    async def _beat(self) -> None:
        while True:
            self.tell(Alive())
            await trio.sleep(BEAT_S)

    async def _hear(self) -> None:
        """Hear this supervisor, and the next one when it is gone."""
        while True:
            await self._hear_one()
            if not self._may_read.is_set():
                self._end(None)
                return
            await self._await_heir()

    async def _hear_one(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._channel)
            try:
                order, descriptors = self._channel.hear_order()
            except BlockingIOError:
                continue
            except StoreError as error:
                log.warning("%s", error)
                continue
            except Closed:
                return
            for descriptor in descriptors:
                os.close(descriptor)
            self._obey(order)

    async def _await_heir(self) -> None:
        """Go on without a supervisor until there is one again."""
        self.alone = True
        log.error(
            "the supervisor is gone: serving goes on, but nobody takes over when this process"
            " ends. Start the daemon again: it takes over the mount"
        )
        control = Path(self._given.listening.getsockname())
        try:
            with orphan.listen(control) as listening:
                await trio.lowlevel.wait_readable(listening)
                end, _ = listening.accept()
        finally:
            orphan.place(control).unlink(missing_ok=True)
        self._channel.close()
        self._channel = Channel(end)
        self._bequeath()
        self.alone = False
        log.info("there is a supervisor again")

    def _bequeath(self) -> None:
        given = self._given
        mountpoint = Path(given.handover.mountpoint)
        handover = replace(given.handover, answered=self.answered)
        estate = Estate(os.getpid(), handover, mountinfo.at(mountpoint)[-1].device)
        locks = given.handover.locks
        self._channel.tell(estate, (given.device, given.listening.fileno(), *locks))

    def _obey(self, order: Order) -> None:
        match order:
            case Go():
                self._may_read.set()
            case News():
                self.news = order
            case Leave():
                self._end(order)
            case Stop():
                self._end(None)
            case Handover():
                log.warning("the supervisor hands over a second time")

    def _end(self, leaving: Leave | None) -> None:
        if not self.told.cancel_called:
            self.leaving = leaving
        self.told.cancel()
        self._may_read.set()

    async def _heed_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """SIGTERM ends this worker, and the mount only if no supervisor is there to keep it."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGTERM:
                    log.info("SIGTERM: leaving")
                    self._end(None if self.alone else Leave(ALONE_GRACE_S))
