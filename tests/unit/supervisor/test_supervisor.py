"""What the supervisor does when workers serve, die, hang, leave and cannot start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from thinfs.errors import StoreError
from thinfs.supervisor.messages import (
    Alive,
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
from thinfs.supervisor.rules import START_S
from thinfs.supervisor.supervisor import LEAVE_S, STOP_S, Limits, Outcome, Supervisor, Worker

if TYPE_CHECKING:
    from thinfs.supervisor.messages import Order, Word

HANG_S = 15.0
GRACE_S = 1.0
DIED = "was killed by SIGKILL"


@dataclass(eq=False)
class FakeHand:
    pid: int
    told: list[Order] = field(default_factory=list)
    killed: bool = False

    def tell(self, order: Order, /) -> bool:
        self.told.append(order)
        return True

    def kill(self) -> None:
        self.killed = True

    @property
    def orders(self) -> list[Order]:
        """But the news."""
        return [order for order in self.told if not isinstance(order, News)]

    @property
    def news(self) -> News:
        return [order for order in self.told if isinstance(order, News)][-1]


class FakeMachine:
    """Remembers what was wanted, in order."""

    def __init__(self) -> None:
        self.hands: list[FakeHand] = []
        self.done: list[str] = []
        self.said: list[str] = []
        self.can_resend = True
        self.can_spawn = True

    def spawn(self, number: int, /, *, fresh: bool) -> FakeHand:
        if not self.can_spawn:
            raise StoreError("a worker cannot be started: Cannot allocate memory")
        self.done.append(f"spawn fresh {number}" if fresh else f"spawn {number}")
        self.hands.append(FakeHand(1000 + number))
        return self.hands[-1]

    def answered(self, answer: bytes, /) -> None:
        self.done.append(f"answered {answer.decode()}")

    def resend(self) -> bool:
        self.done.append("resend")
        return self.can_resend

    def notify(self, state: str, /) -> None:
        self.said.append(state.split("\n", maxsplit=1)[0])


class World:
    """A supervisor and a clock."""

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.supervisor = Supervisor(self.machine, Limits(HANG_S, GRACE_S))
        self.now = 100.0
        self.supervisor.start(self.now)
        self.supervisor.tick(self.now)

    @property
    def hands(self) -> list[FakeHand]:
        return self.machine.hands

    def worker(self, number: int) -> Worker:
        worker = self.supervisor.worker_by(self.hands[number - 1])
        assert worker is not None
        return worker

    def says(self, number: int, *words: Word) -> None:
        for word in words:
            self.supervisor.hear(self.worker(number), word, self.now)
        self.supervisor.tick(self.now)

    def dies(self, number: int, how: str = DIED) -> None:
        self.supervisor.ended(self.worker(number), how, self.now)
        self.supervisor.tick(self.now)

    def later(self, seconds: float, *, alive: tuple[int, ...] = ()) -> None:
        """Time passes as for a supervisor that runs when it is due."""
        end = self.now + seconds
        while self.now < end:
            due = self.supervisor.due
            self.now = min(end, self.now + 1.0 if due is None else max(due, self.now), self.now + 1)
            for number in alive:
                self.supervisor.hear(self.worker(number), Alive(), self.now)
            self.supervisor.tick(self.now)

    def serves(self, number: int) -> None:
        self.says(number, Prepared(), Serving(b"terms"))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def serving(world: World) -> World:
    world.serves(1)
    world.later(60.0, alive=(1,))
    world.machine.done.clear()
    return world


def test_the_first_worker_goes_when_it_is_prepared(world: World) -> None:
    assert world.hands[0].orders == []
    world.says(1, Alive(), Prepared())
    assert world.hands[0].orders == [Go()]
    assert world.machine.said == []
    world.says(1, Serving(b"terms"))
    assert world.machine.said == ["READY=1"]
    assert world.machine.done == ["spawn 1", "answered terms"]


def test_a_first_worker_that_cannot_start_ends_it_all_with_its_reason(world: World) -> None:
    failure = Failed("UsageError", "no such thing")
    world.says(1, failure)
    world.dies(1)
    assert world.supervisor.outcome == Outcome(failure=failure)


def test_a_first_worker_that_just_ends_is_a_failure_too(world: World) -> None:
    world.dies(1, "ended with exit code 1")
    assert world.supervisor.outcome is not None
    assert world.supervisor.outcome.failure is not None
    assert "ended with exit code 1" in world.supervisor.outcome.failure.message


@pytest.mark.expects_log("takes over")
def test_when_a_worker_dies_the_kernel_asks_again_and_another_one_starts(serving: World) -> None:
    serving.dies(1)
    assert serving.machine.done == ["resend", "spawn 2"]
    assert serving.hands[1].news == News(1, f"worker 1 (process 1001) {DIED}")
    serving.serves(2)
    assert serving.hands[1].orders == [Go()]
    assert serving.supervisor.outcome is None


@pytest.mark.expects_log("takes over")
@pytest.mark.expects_log("cannot ask again")
def test_a_kernel_that_cannot_ask_again_is_told_of(serving: World) -> None:
    serving.machine.can_resend = False
    serving.dies(1)
    assert serving.machine.done == ["resend", "spawn 2"]


@pytest.mark.expects_log("takes over|ended at once")
def test_workers_that_cannot_start_are_tried_for_ever_while_the_mount_is_used(
    serving: World,
) -> None:
    serving.dies(1)
    for number in range(2, 30):
        serving.says(number, Failed("StoreError", "disk full"))
        serving.dies(number)
        serving.later(11.0)
    assert serving.machine.done.count("resend") == 29
    assert serving.hands[-1].news.last_end.endswith("disk full")
    assert serving.supervisor.outcome is None


@pytest.mark.expects_log("silent for 15 s: killing|takes over")
def test_a_silent_worker_is_killed_and_replaced(serving: World) -> None:
    serving.later(HANG_S - 0.5)
    assert not serving.hands[0].killed
    serving.later(1.0)
    assert serving.hands[0].killed
    serving.dies(1)
    assert serving.machine.done == ["resend", "spawn 2"]
    assert "was silent for 15 s" in serving.hands[1].news.last_end


def test_a_worker_is_not_judged_by_a_supervisor_that_slept(serving: World) -> None:
    serving.now += 1000.0
    serving.supervisor.tick(serving.now)
    assert not serving.hands[0].killed
    serving.later(60.0, alive=(1,))
    assert not serving.hands[0].killed


@pytest.mark.expects_log("silent for 60 s: killing|takes over")
def test_a_worker_that_never_says_anything_is_killed_as_well(serving: World) -> None:
    serving.dies(1)
    serving.later(START_S - 1.0)
    assert not serving.hands[1].killed
    serving.later(2.0)
    assert serving.hands[1].killed


def test_a_reload_lets_the_next_worker_prepare_before_the_old_one_leaves(serving: World) -> None:
    serving.says(1, Reload())
    assert serving.machine.done == ["spawn fresh 2"]
    assert serving.machine.said[-1] == "RELOADING=1"
    assert serving.hands[0].orders == [Go()]
    serving.says(2, Prepared())
    assert serving.hands[0].orders == [Go(), Leave(GRACE_S)]
    assert serving.hands[1].orders == []
    serving.says(1, Left())
    assert serving.machine.done == ["spawn fresh 2", "resend"]
    assert serving.hands[1].orders == [Go()]
    serving.says(2, Serving(b"terms"))
    assert serving.machine.said[-1] == "READY=1"
    serving.dies(1, "ended with exit code 0")
    assert serving.hands[1].news == News()


@pytest.mark.expects_log("takes over")
def test_an_old_worker_that_dies_while_the_next_one_prepares_is_replaced_by_it(
    serving: World,
) -> None:
    serving.says(1, Reload())
    serving.dies(1)
    assert serving.machine.done == ["spawn fresh 2", "resend"]
    assert serving.hands[1].orders == []
    serving.says(2, Prepared())
    assert serving.hands[1].orders == [Go()]


@pytest.mark.expects_log("did not end in time: killing|takes over")
def test_an_old_worker_that_does_not_leave_is_killed(serving: World) -> None:
    serving.says(1, Reload())
    serving.says(2, Prepared())
    serving.later(GRACE_S + LEAVE_S + 1.0, alive=(1, 2))
    assert serving.hands[0].killed
    serving.dies(1)
    assert serving.hands[1].orders == [Go()]


@pytest.mark.expects_log("reloading failed, the old worker goes on: no such thing")
def test_a_next_worker_that_cannot_start_leaves_the_old_one_in_peace(serving: World) -> None:
    serving.says(1, Reload())
    serving.says(2, Failed("UsageError", "no such thing"))
    serving.dies(2)
    assert serving.hands[0].orders == [Go()]
    assert serving.hands[0].news == News(reloads_failed=1, reload_error="no such thing")
    assert serving.machine.said[-1] == "READY=1"
    assert not serving.hands[0].killed


@pytest.mark.expects_log("not reloading")
def test_one_reload_at_a_time(serving: World) -> None:
    serving.says(1, Reload(), Reload())
    assert serving.machine.done == ["spawn fresh 2"]


@pytest.mark.expects_log("takes over|Cannot allocate memory; trying again|ended at once")
def test_a_machine_that_cannot_start_processes_is_tried_again(serving: World) -> None:
    serving.machine.can_spawn = False
    serving.dies(1)
    serving.later(5.0)
    assert len(serving.hands) == 1
    assert serving.supervisor.outcome is None
    serving.machine.can_spawn = True
    serving.later(11.0)
    assert len(serving.hands) == 2


def test_a_machine_that_cannot_start_the_first_process_is_an_error() -> None:
    machine = FakeMachine()
    machine.can_spawn = False
    with pytest.raises(StoreError, match="Cannot allocate memory"):
        Supervisor(machine, Limits(HANG_S, GRACE_S)).start(100.0)


@pytest.mark.expects_log("reloading failed, the old worker goes on: .*Cannot allocate memory")
def test_a_reload_on_such_a_machine_leaves_the_old_worker(serving: World) -> None:
    serving.machine.can_spawn = False
    serving.says(1, Reload())
    assert serving.hands[0].orders == [Go()]
    assert serving.hands[0].news.reloads_failed == 1
    assert serving.machine.said[-1] == "READY=1"


def test_stopping_waits_for_the_worker(serving: World) -> None:
    serving.supervisor.stop(serving.now, keep=False)
    assert serving.hands[0].orders == [Go(), Stop()]
    assert serving.supervisor.outcome is None
    serving.dies(1, "ended with exit code 0")
    assert serving.supervisor.outcome == Outcome()
    assert serving.machine.done == []


def test_a_mount_that_is_kept_is_left_and_not_stopped(serving: World) -> None:
    serving.supervisor.stop(serving.now, keep=True)
    assert serving.hands[0].orders == [Go(), Leave(GRACE_S)]
    serving.says(1, Left())
    serving.dies(1, "ended with exit code 0")
    assert serving.supervisor.outcome == Outcome(keep=True)


@pytest.mark.expects_log("did not end in time")
def test_a_worker_that_does_not_stop_is_killed(serving: World) -> None:
    serving.supervisor.stop(serving.now, keep=False)
    serving.later(STOP_S + 1.0, alive=(1,))
    assert serving.hands[0].killed


@pytest.mark.expects_log("was in the way of stopping")
def test_asked_twice_it_stops_at_once(serving: World) -> None:
    serving.supervisor.stop(serving.now, keep=False)
    serving.supervisor.stop(serving.now, keep=False)
    assert serving.hands[0].killed


@pytest.mark.expects_log("takes over|ended at once")
def test_stopping_between_two_workers_ends_at_once(serving: World) -> None:
    for number in (1, 2, 3):
        serving.dies(number)
    serving.supervisor.stop(serving.now, keep=False)
    assert serving.supervisor.outcome == Outcome()


def test_a_mount_that_somebody_took_away_ends_it(serving: World) -> None:
    serving.says(1, Unmounted())
    serving.dies(1, "ended with exit code 0")
    assert serving.supervisor.outcome == Outcome()


def test_a_worker_that_left_by_itself_is_replaced_without_alarm(serving: World) -> None:
    serving.says(1, Left())
    serving.dies(1, "ended with exit code 0")
    assert serving.machine.done == ["resend", "spawn 2"]
    assert serving.hands[1].news == News()


def test_an_adopted_worker_is_replaced_as_in_a_reload() -> None:
    machine = FakeMachine()
    supervisor = Supervisor(machine, Limits(HANG_S, GRACE_S))
    orphan = FakeHand(77)
    supervisor.adopt(orphan, 5, 100.0)
    assert machine.done == ["spawn fresh 6"]
    heir = supervisor.worker_by(machine.hands[0])
    old = supervisor.worker_by(orphan)
    assert heir
    assert old
    supervisor.hear(heir, Prepared(), 101.0)
    assert orphan.told[-1] == Leave(GRACE_S)
    supervisor.hear(old, Left(), 102.0)
    assert machine.done == ["spawn fresh 6", "resend"]
    assert machine.hands[0].told[-1] == Go()
