"""The worker that waits: when it is started, taken, and replaced."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.sites import is_gone
from tests.support.wait import wait_until
from thinfs.errors import StoreError
from thinfs.supervisor import processes
from thinfs.supervisor.spare import AFTER_S, Spare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thinfs.supervisor.processes import WorkerProcess

# Waits for the end of its channel, as a worker does that is told nothing.
WAITING = (sys.executable, "-c", "import os, sys; os.read(int(sys.argv[1]), 1)")


class Started:
    """Counts real processes."""

    def __init__(self) -> None:
        self.processes: list[WorkerProcess] = []

    def __call__(self) -> WorkerProcess:
        self.processes.append(processes.start(WAITING))
        return self.processes[-1]


@pytest.fixture
def started() -> Iterator[Started]:
    started = Started()
    yield started
    for process in started.processes:
        process.kill()
        process.reap()


def test_it_is_started_some_time_after_a_worker_has_begun_to_serve(started: Started) -> None:
    spare = Spare(started, wanted=True)
    spare.tend(100.0)
    spare.plan(100.0)
    assert spare.due == 100.0 + AFTER_S
    spare.tend(100.0 + AFTER_S / 2)
    assert started.processes == []
    spare.tend(100.0 + AFTER_S)
    spare.tend(200.0)
    assert len(started.processes) == 1
    assert spare.take(fresh=False) is started.processes[0]
    spare.close()
    assert started.processes[0].alive


@pytest.mark.expects_log("no spare worker: no memory")
def test_a_machine_that_cannot_start_one_has_none() -> None:
    def start() -> WorkerProcess:
        raise StoreError("no memory")

    spare = Spare(start, wanted=True)
    spare.plan(0.0)
    spare.tend(AFTER_S)
    assert spare.due is None
    spare.close()


def test_without_one_a_process_is_started_when_it_is_needed(started: Started) -> None:
    spare = Spare(started, wanted=False)
    spare.plan(100.0)
    assert spare.due is None
    assert spare.take(fresh=False) is started.processes[0]


@pytest.mark.parametrize("fresh", [False, True])
def test_one_that_is_dead_or_too_old_is_replaced(started: Started, *, fresh: bool) -> None:
    spare = Spare(started, wanted=True)
    spare.plan(0.0)
    spare.tend(AFTER_S)
    (old,) = started.processes
    if not fresh:
        old.kill()
        wait_until(lambda: is_gone(old.pid), "the spare to be dead")
    assert spare.take(fresh=fresh) is started.processes[1]
    assert is_gone(old.pid)


def test_it_ends_with_its_supervisor(started: Started) -> None:
    spare = Spare(started, wanted=True)
    spare.plan(0.0)
    spare.tend(AFTER_S)
    spare.close()
    assert is_gone(started.processes[0].pid)
