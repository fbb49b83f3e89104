"""The supervisor's process: the mount, the control socket, its workers, signals.

It reads no file of an image, speaks to no network and never touches its own mount. Everything
that it waits for is a descriptor in one selector.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from thinfs import errors
from thinfs.control.listening import listen_unix
from thinfs.errors import StoreError
from thinfs.fs.mountpoint import MountOptions
from thinfs.supervisor import processes
from thinfs.supervisor.device import Mount, open_mount
from thinfs.supervisor.lock import only_one, sign
from thinfs.supervisor.messages import Closed, Handover
from thinfs.supervisor.notify import notify, watchdog_s
from thinfs.supervisor.orphan import claim, place
from thinfs.supervisor.spare import Spare
from thinfs.supervisor.store import Kept, State, Store
from thinfs.supervisor.supervisor import Limits, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thinfs.config import Config, DaemonConfig
    from thinfs.supervisor.orphan import Claimed
    from thinfs.supervisor.processes import Adopted, WorkerProcess
    from thinfs.supervisor.supervisor import Outcome

log = logging.getLogger(__name__)

SOCKET_PATH_BYTES: Final = 107
"""Longest path of a unix socket (unix(7))."""

WORKER: Final = (sys.executable, "-P", "-m", "thinfs.daemon.worker")
"""Not from the working directory, whatever lies there."""

RESENDS_FROM: Final = (6, 9)
"""Kernels since then ask again for what a worker took and did not answer."""

GRACE_S: Final = 1.0
"""How long a leaving worker may go on answering where the kernel asks the next one again."""

_STOP: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class How:
    """What the command line adds to the configuration.

    Attributes:
        log_level: of the workers; empty: as configured.
        keep_mount: SIGTERM leaves the mount to the next supervisor, for which the service
            manager keeps the device.
        worker: starts a worker.
    """

    log_level: str = ""
    keep_mount: bool = False
    worker: Sequence[str] = WORKER


HERE: Final = How()


def run(config: Config, how: How = HERE, ready: Callable[[], None] = lambda: None) -> None:
    """Keep the node's mount served until SIGTERM or SIGINT arrives, or somebody unmounts it.

    SIGHUP replaces the worker by a new one. The configuration is read anew by each worker, but
    for the places of mount, socket and state.

    Args:
        config: all of it.
        how: the rest.
        ready: called once, when the mount and the control API answer.

    Raises:
        ThinfsError: it could not start: the message says why.
    """
    with contextlib.ExitStack() as stack:
        orphan = claim(_control(config.daemon))
        locks = _inherited(orphan, stack) if orphan else _lock(config.daemon, stack)
        machine = _machine(config.daemon, how, locks, orphan)
        supervisor = Supervisor(machine, _limits(config), lasting=bool(machine.first_answer))
        try:
            with contextlib.closing(_Loop(supervisor, machine, how, ready)) as loop:
                outcome = loop.run(orphan)
        except BaseException:
            # A defect of this process is no reason to take the mount away: its worker goes on.
            if not supervisor.lasting:
                machine.close()
            raise
        finally:
            machine.spare.close()
        if not outcome.keep:
            machine.close()
    if outcome.failure:
        raise getattr(errors, outcome.failure.error, StoreError)(outcome.failure.message)


def _machine(
    config: DaemonConfig, how: How, locks: Sequence[int], orphan: Claimed | None
) -> _Machine:
    """With the mount that is there already, or with a new one."""
    store = Store()
    control = _control(config)
    kept = _kept(orphan) if orphan else store.take(_absolute(config.mountpoint), control)
    if kept is None:
        mount = open_mount(Path(config.mountpoint), _options(config))
        try:
            listening = listen_unix(control)
        except BaseException:
            mount.close()
            raise
        kept = Kept(mount, listening, b"")
    elif orphan is None:
        kept.mount.resend()
    start = partial(processes.start, how.worker, locks)
    machine = _Machine(
        mount=kept.mount,
        listening=kept.listening,
        control=control,
        state=config.state,
        how=how,
        locks=locks,
        store=store,
        spare=Spare(start, wanted=config.spare_worker),
        first_answer=kept.answered,
    )
    machine.keep()
    return machine


def _kept(orphan: Claimed) -> Kept:
    """An orphan's mount stays where it is, whatever the configuration says now."""
    given = orphan.handover
    log.warning("taking over from process %d, whose supervisor is gone", orphan.pid)
    mount = Mount(
        Path(given.mountpoint), orphan.device, given.init, orphan.numbers, given.mounted_ns
    )
    return Kept(mount, orphan.listening, given.answered)


@dataclass(slots=True)
class _Machine:
    """Does what the supervisor wants; see :class:`thinfs.supervisor.supervisor.Machine`."""

    mount: Mount
    listening: socket.socket
    control: Path
    state: str
    how: How
    locks: Sequence[int]
    store: Store
    spare: Spare
    first_answer: bytes = b""
    started: list[WorkerProcess] = field(default_factory=list)

    def spawn(self, number: int, /, *, fresh: bool) -> WorkerProcess:
        process = self.spare.take(fresh=fresh)
        handover = Handover(
            number=number,
            supervisor=os.getpid(),
            mountpoint=str(self.mount.mountpoint),
            state=self.state,
            mounted_ns=self.mount.mounted_ns,
            init=self.mount.init,
            answered=self.first_answer,
            locks=tuple(self.locks),
            log_level=self.how.log_level,
        )
        process.channel.tell(handover, (self.mount.device, self.listening.fileno()))
        self.started.append(process)
        return process

    def answered(self, answer: bytes) -> None:
        self.spare.plan(time.monotonic())
        if not self.first_answer:
            self.first_answer = answer
            self.keep()
        elif answer != self.first_answer:
            log.warning(
                "this worker's libfuse would agree with the kernel on other terms than the"
                " mount has: restart the daemon when its containers allow it"
            )

    def resend(self) -> bool:
        return self.mount.resend()

    def notify(self, state: str) -> None:
        notify(state)

    def keep(self) -> None:
        """Let the service manager have what the next supervisor needs."""
        state = State(
            mountpoint=str(self.mount.mountpoint),
            socket=str(self.control),
            init=self.mount.init,
            answered=self.first_answer,
            numbers=self.mount.numbers,
            mounted_ns=self.mount.mounted_ns,
        )
        self.store.keep(state, self.mount.device, self.listening.fileno())

    def close(self) -> None:
        """The mount and the control socket go away."""
        self.store.forget()
        self.listening.close()
        self.control.unlink(missing_ok=True)
        self.mount.close()


class _Loop:
    """Waits for signals, words and ends, and for time to pass."""

    def __init__(
        self, supervisor: Supervisor, machine: _Machine, how: How, ready: Callable[[], None]
    ) -> None:
        self._supervisor = supervisor
        self._machine = machine
        self._how = how
        self._ready: Callable[[], None] | None = ready
        self._selector = selectors.DefaultSelector()
        self._signals, self._signalled = socket.socketpair()
        for end in (self._signals, self._signalled):
            end.setblocking(False)
        self._selector.register(self._signals, selectors.EVENT_READ)
        self._before = {number: signal.signal(number, _noted) for number in (*_STOP, signal.SIGHUP)}
        self._wakeup = signal.set_wakeup_fd(self._signalled.fileno())
        self._ping_s = watchdog_s()

    def run(self, orphan: Claimed | None) -> Outcome:
        """Until all is over.

        Args:
            orphan: serves already.
        """
        if orphan:
            adopted = processes.Adopted(orphan.pid, orphan.channel)
            self._selector.register(adopted.channel, selectors.EVENT_READ, adopted)
            self._supervisor.adopt(adopted, orphan.handover.number, time.monotonic())
        else:
            self._supervisor.start(time.monotonic())
        while self._supervisor.outcome is None:
            self._watch_new()
            self._supervisor.tick(time.monotonic())
            self._machine.spare.tend(time.monotonic())
            self._say_ready()
            self._watch_new()
            for key, _ in self._selector.select(self._timeout_s()):
                if key.data is None:
                    self._heed_signals()
                else:
                    self._hear(key.data)
            if self._ping_s:
                notify("WATCHDOG=1")
        return self._supervisor.outcome

    def _watch_new(self) -> None:
        for process in self._machine.started:
            self._selector.register(process.channel, selectors.EVENT_READ, process)
        self._machine.started.clear()

    def _say_ready(self) -> None:
        if self._ready and self._supervisor.serving:
            self._ready()
            self._ready = None

    def _timeout_s(self) -> float | None:
        times = [self._ping_s] if self._ping_s else []
        now, due = time.monotonic(), (self._supervisor.due, self._machine.spare.due)
        times += [max(each - now, 0.0) for each in due if each is not None]
        return min(times, default=None)

    def _hear(self, process: WorkerProcess | Adopted) -> None:
        worker = self._supervisor.worker_by(process)
        assert worker is not None
        try:
            while True:
                word, descriptors = process.channel.hear_word()
                for descriptor in descriptors:
                    os.close(descriptor)
                self._supervisor.hear(worker, word, time.monotonic())
        except BlockingIOError:
            pass
        except StoreError as error:
            log.warning("%s: %s", worker, error)
        except Closed:
            self._selector.unregister(process.channel)
            self._supervisor.ended(worker, process.reap(), time.monotonic())

    def _heed_signals(self) -> None:
        for number in self._signals.recv(4096):
            if number in _STOP:
                log.info("%s: stopping", signal.Signals(number).name)
                self._supervisor.stop(time.monotonic(), keep=self._how.keep_mount)
            elif number == signal.SIGHUP:
                self._supervisor.reload(time.monotonic())

    def close(self) -> None:
        """Give everything back."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._selector.close()
        self._signals.close()
        self._signalled.close()


def _noted(_number: int, _frame: object) -> None:
    """The wake-up descriptor has it."""


def _options(config: DaemonConfig) -> MountOptions:
    return MountOptions(read_ahead_kib=config.read_ahead_kib, privileged=True)


def _limits(config: Config) -> Limits:
    release = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    patient_s = config.sources.read_timeout_s + GRACE_S
    grace_s = GRACE_S if release >= RESENDS_FROM else patient_s
    return Limits(hang_s=config.daemon.hang_timeout_s, grace_s=grace_s)


def _lock(config: DaemonConfig, stack: contextlib.ExitStack) -> list[int]:
    control = _control(config)
    beside = control.with_name(f"{control.name}.lock")
    return [
        stack.enter_context(only_one(beside, str(control))),
        stack.enter_context(only_one(Path(config.state) / "lock", f"the state in {config.state}")),
    ]


def _inherited(orphan: Claimed, stack: contextlib.ExitStack) -> Sequence[int]:
    for lock in orphan.locks:
        sign(lock)
        stack.callback(os.close, lock)
    return orphan.locks


def _control(config: DaemonConfig) -> Path:
    path = Path(config.socket)
    if len(os.fsencode(place(path))) > SOCKET_PATH_BYTES:
        longest = SOCKET_PATH_BYTES - len(place(path).name) + len(path.name)
        raise StoreError(f"{path}: this socket's path may have at most {longest} bytes")
    return path


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would ask the mount
