"""A worker that is started before it is needed, and waits with everything imported.

Most of what a takeover takes is an interpreter that reads its modules. The spare has done that;
it has the version of the program that was there when the worker beside it began to serve.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from thinfs.supervisor.processes import WorkerProcess

log = logging.getLogger(__name__)

AFTER_S: Final = 3.0
"""How long after a worker has begun to serve its spare is started: a start has better to do."""


class Spare:
    """At most one spare worker.

    Args:
        start: starts a process that waits for a mount.
        wanted: whether there is to be one at all.
    """

    def __init__(self, start: Callable[[], WorkerProcess], *, wanted: bool) -> None:
        self._start = start
        self._wanted = wanted
        self._process: WorkerProcess | None = None
        self.due: float | None = None

    def plan(self, now: float) -> None:
        """A worker has begun to serve."""
        if self._wanted and self._process is None:
            self.due = now + AFTER_S

    def tend(self, now: float) -> None:
        """Start it when it is time; a machine on which that fails has no spare."""
        if self.due is not None and self.due <= now:
            self.due = None
            try:
                self._process = self._start()
            except StoreError as error:
                log.warning("no spare worker: %s", error)

    def take(self, *, fresh: bool) -> WorkerProcess:
        """The spare, if it lives; else, or if it has to be ``fresh``, a new process."""
        process, self._process, self.due = self._process, None, None
        if process is None:
            return self._start()
        if fresh or not process.alive:
            process.kill()
            process.reap()
            return self._start()
        return process

    def close(self) -> None:
        """End it."""
        self.due = None
        if self._process:
            self._process.kill()
            self._process.reap()
            self._process = None
