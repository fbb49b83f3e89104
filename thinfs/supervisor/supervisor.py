"""Which worker serves the mount, and what to do when it ends, hangs or is to be replaced.

Nothing here waits or touches the machine; :mod:`thinfs.supervisor.run` tells what happens and
has done what is wanted. At most one worker reads the device: the next one is told to go when
the one before has left or is dead.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from thinfs.errors import StoreError
from thinfs.supervisor.messages import (
    Alive,
    Estate,
    Failed,
    Go,
    Leave,
    Left,
    News,
    Prepared,
    Reload,
    Serving,
    Stop,
    Unmounted,
)
from thinfs.supervisor.rules import FIRST_DELAY_S, BackOff, Pulse

if TYPE_CHECKING:
    from thinfs.supervisor.messages import Order, Word

log = logging.getLogger(__name__)

LEAVE_S: Final = 30.0
"""How long a worker may take to end, beside what its requests may take."""

STOP_S: Final = 40.0
"""The same when the mount goes away: it unmounts what it has mounted."""


class Hand(Protocol):
    """What can be done to a worker's process."""

    @property
    def pid(self) -> int:
        """Its number."""
        ...

    def tell(self, order: Order, /) -> bool:
        """Say something to it; ``False`` when it cannot hear."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class Machine(Protocol):
    """What the supervisor has done."""

    def spawn(self, number: int, /, *, fresh: bool) -> Hand:
        """Have a worker and hand it the mount; if ``fresh``, one that was started just now.

        Raises:
            StoreError: no process can be started.
        """
        ...

    def answered(self, answer: bytes, /) -> None:
        """The kernel has had its answer to FUSE_INIT."""
        ...

    def resend(self) -> bool:
        """Have the kernel ask again what nobody answered; ``False`` when it cannot."""
        ...

    def notify(self, state: str, /) -> None:
        """Tell the service manager."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the supervisor is.

    Attributes:
        hang_s: longest silence of a worker.
        grace_s: how long requests may take that a leaving worker has begun to answer.
    """

    hang_s: float
    grace_s: float


@dataclass(slots=True, eq=False)
class Worker:
    """One worker, from its start to its end.

    Attributes:
        number: 1 for the mount's first.
        hand: its process.
        pulse: whether it lives.
        prepared: it could serve.
        served_at: when it began to.
        left: it does not read the device any more.
        end_by: when it must have ended.
        killed: why it was killed, if it was.
        failure: why it could not start.
        unmounted: it has seen the mount's end.
    """

    number: int
    hand: Hand
    pulse: Pulse
    prepared: bool = False
    served_at: float | None = None
    left: bool = False
    end_by: float | None = None
    killed: str = ""
    failure: Failed | None = None
    unmounted: bool = False

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.hand.pid})"

    @property
    def due(self) -> float:
        """When something must be done about it if nothing happens."""
        return self.pulse.due if self.end_by is None else min(self.pulse.due, self.end_by)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended.

    Attributes:
        keep: the mount is to stay.
        failure: why no worker ever served.
    """

    keep: bool = False
    failure: Failed | None = None


@dataclass(slots=True)
class Supervisor:
    """Keeps one worker serving.

    Attributes:
        machine: does it.
        limits: patience.
        number: of the last worker that was started.
        lasting: the mount is in use: go on whatever happens.
        outcome: set when all is over.
    """

    machine: Machine
    limits: Limits
    number: int = 0
    lasting: bool = False
    outcome: Outcome | None = None
    _current: Worker | None = None
    _next: Worker | None = None
    _leaving: list[Worker] = field(default_factory=list)
    _start_at: float | None = None
    _backoff: BackOff = field(default_factory=BackOff)
    _news: News = field(default_factory=News)
    _stopping: Outcome | None = None
    _due: float | None = None

    def start(self, now: float) -> None:
        """Start the worker that is to serve.

        Raises:
            StoreError: no process can be started, and nobody uses the mount yet.
        """
        self._start_at = None
        try:
            self._current = self._spawn(now, fresh=False)
        except StoreError as error:
            if not self.lasting:
                raise
            log.error("%s; trying again: readers wait", error)  # noqa: TRY400 - the traceback says nothing more
            self._backoff = self._backoff.after(None)
            self._start_at = now + max(self._backoff.delay_s, FIRST_DELAY_S)

    def adopt(self, hand: Hand, number: int, now: float) -> None:
        """Begin with a worker that serves already and belongs to nobody; it is replaced."""
        self.number = number
        self.lasting = True
        pulse = Pulse(self.limits.hang_s, now)
        self._current = Worker(number, hand, pulse, prepared=True, served_at=now)
        self.reload(now)

    def hear(self, worker: Worker, word: Word, now: float) -> None:
        """A worker says something."""
        worker.pulse = worker.pulse.beat(now)
        match word:
            case Alive() | Estate():
                pass
            case Prepared():
                worker.prepared = True
                self._prepared(worker, now)
            case Serving():
                worker.served_at = now
                self._serving(worker, word)
            case Left():
                worker.left = True
                if worker is self._current and self._next is not None:
                    self._replace(now)
            case Failed():
                worker.failure = word
            case Unmounted():
                worker.unmounted = True
            case Reload():
                self.reload(now)

    def ended(self, worker: Worker, how: str, now: float) -> None:
        """A worker's process is gone.

        Args:
            worker: which.
            how: for a person, as in "was killed by SIGKILL".
            now: the time.
        """
        how = worker.killed or (worker.failure.message if worker.failure else how)
        if worker in self._leaving:
            self._leaving.remove(worker)
        elif worker is self._next:
            self._next = None
            self._reload_failed(how)
        elif worker is self._current:
            self._current_ended(worker, how, now)
        self._finish()

    def reload(self, now: float) -> None:
        """Replace the worker by a new one, from the disk as it is now."""
        if self._stopping or self._next or not self.serving:
            log.warning("not reloading: a worker is just starting or stopping")
            return
        self.machine.notify(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1_000_000)}")
        try:
            self._next = self._spawn(now, fresh=True)
        except StoreError as error:
            self._reload_failed(str(error))
            return
        log.info("reloading: %s will replace %s", self._next, self._current)

    def stop(self, now: float, *, keep: bool) -> None:
        """End; asked twice, at once.

        Args:
            now: the time.
            keep: leave the mount to the next supervisor.
        """
        if self._stopping:
            for worker in self._workers():
                self._kill(worker, "was in the way of stopping")
            return
        self.machine.notify("STOPPING=1")
        self._stopping = Outcome(keep=keep)
        if self._next:
            self._kill(self._next, "is not needed any more")
        if self._current:
            order = Leave(self.limits.grace_s) if keep else Stop()
            self._current.hand.tell(order)
            self._current.end_by = now + STOP_S + (self.limits.grace_s if keep else 0)
        self._finish()

    def tick(self, now: float) -> None:
        """Time has passed; call it when ``due`` has come, and after each event."""
        late_s = 0.0 if self._due is None else now - self._due
        for worker in self._workers():
            worker.pulse = worker.pulse.forgive(late_s, now)
            if worker.end_by is not None and worker.end_by <= now:
                self._kill(worker, "did not end in time")
            elif worker.pulse.due <= now:
                self._kill(worker, f"was silent for {now - worker.pulse.last:.0f} s")
        if self._start_at is not None and self._start_at <= now:
            self.start(now)
        self._due = self._next_due()

    @property
    def due(self) -> float | None:
        """When to :meth:`tick` next; ``None``: not before something happens."""
        return self._due

    @property
    def serving(self) -> bool:
        """Whether a worker serves now."""
        return self._current is not None and self._current.served_at is not None

    def worker_by(self, hand: Hand) -> Worker | None:
        """The worker that has this process."""
        return next((worker for worker in self._workers() if worker.hand is hand), None)

    def _workers(self) -> list[Worker]:
        return [worker for worker in (self._current, self._next, *self._leaving) if worker]

    def _next_due(self) -> float | None:
        times = [worker.due for worker in self._workers() if not worker.killed]
        return min([*times, *([] if self._start_at is None else [self._start_at])], default=None)

    def _spawn(self, now: float, *, fresh: bool) -> Worker:
        self.number += 1
        hand = self.machine.spawn(self.number, fresh=fresh)
        worker = Worker(self.number, hand, Pulse(self.limits.hang_s, now))
        hand.tell(self._news)
        return worker

    def _kill(self, worker: Worker, why: str) -> None:
        if not worker.killed:
            log.warning("%s %s: killing it", worker, why)
            worker.killed = why
            worker.hand.kill()

    def _prepared(self, worker: Worker, now: float) -> None:
        if worker is self._current:
            worker.hand.tell(Go())
        elif worker is self._next and self._current:
            self._current.hand.tell(Leave(self.limits.grace_s))
            self._current.end_by = now + self.limits.grace_s + LEAVE_S

    def _replace(self, now: float) -> None:
        """The next worker takes the place of one that has left or is dead."""
        assert self._next
        if self._current and self._current.left:
            self._leaving.append(self._current)
            self._current.end_by = now + LEAVE_S
        self._resend()
        self._current, self._next = self._next, None
        if self._current.prepared:
            self._current.hand.tell(Go())

    def _serving(self, worker: Worker, word: Serving) -> None:
        self.lasting = True
        self.machine.answered(word.answered)
        log.info("%s serves", worker)
        self.machine.notify(f"READY=1\nSTATUS=worker {worker.number} serves")

    def _reload_failed(self, how: str) -> None:
        if self._stopping:
            return
        log.error("reloading failed, the old worker goes on: %s", how)
        failed = self._news.reloads_failed + 1
        self._tell(replace(self._news, reloads_failed=failed, reload_error=how))
        self.machine.notify(f"READY=1\nSTATUS=reloading failed: {how}")

    def _current_ended(self, worker: Worker, how: str, now: float) -> None:
        self._current = None
        if self._stopping:
            return
        if worker.unmounted:
            self._stopping = Outcome()
        elif not self.lasting:
            failure = worker.failure or Failed("StoreError", f"{worker} {how}; see its log")
            self._stopping = Outcome(failure=failure)
        elif self._next:
            self._died(worker, how)
            self._replace(now)
        else:
            self._died(worker, how)
            self._resend()
            served_s = None if worker.served_at is None else now - worker.served_at
            self._backoff = self._backoff.after(served_s)
            self._start_at = now + self._backoff.delay_s
            if self._backoff.delay_s:
                log.warning(
                    "%d workers have ended at once: the next one starts in %.2f s; readers wait",
                    self._backoff.quick,
                    self._backoff.delay_s,
                )

    def _died(self, worker: Worker, how: str) -> None:
        if worker.left:
            log.info("%s has left: starting another", worker)
            return
        log.warning("%s %s: another one takes over its mount", worker, how)
        restarts = self._news.restarts + 1
        self._tell(replace(self._news, restarts=restarts, last_end=f"{worker} {how}"))

    def _resend(self) -> None:
        if not self.machine.resend():
            log.warning(
                "this kernel (before 6.9) cannot ask again: requests that the worker had taken"
                " and not answered fail when the mount goes away"
            )

    def _tell(self, news: News) -> None:
        self._news = news
        for worker in self._workers():
            worker.hand.tell(news)

    def _finish(self) -> None:
        if self._stopping and not self._workers():
            self.outcome = self._stopping
        elif self._stopping and not self._current and self._next:
            self._kill(self._next, "is not needed any more")
