"""When a worker is replaced, and how soon."""

from __future__ import annotations

from thinfs.supervisor.rules import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    QUICK_S,
    START_S,
    BackOff,
    Pulse,
)


def delays(*served: float | None) -> list[float]:
    backoff, found = BackOff(), []
    for served_s in served:
        backoff = backoff.after(served_s)
        found.append(backoff.delay_s)
    return found


def test_a_worker_that_has_served_is_replaced_at_once_however_often() -> None:
    assert delays(*[QUICK_S] * 50) == [0.0] * 50


def test_the_first_that_ends_at_once_costs_nothing_the_next_ones_more_and_more() -> None:
    assert delays(None, 0.0, None, 0.1) == [
        0.0,
        FIRST_DELAY_S,
        2 * FIRST_DELAY_S,
        4 * FIRST_DELAY_S,
    ]


def test_the_delay_has_an_end() -> None:
    assert delays(*[None] * 1000)[-1] == LONGEST_DELAY_S


def test_one_that_serves_ends_the_delay() -> None:
    assert delays(None, None, None, 60.0, None) == [0.0, 0.25, 0.5, 0.0, 0.0]


def test_a_worker_may_take_long_to_its_first_sign_of_life() -> None:
    pulse = Pulse(hang_s=15.0, last=100.0)
    assert pulse.due == 100.0 + START_S
    assert pulse.beat(103.0).due == 118.0
    assert Pulse(hang_s=300.0, last=100.0).due == 400.0


def test_silence_does_not_count_while_the_judge_slept() -> None:
    pulse = Pulse(hang_s=15.0, last=100.0, heard=True)
    assert pulse.forgive(0.2, 115.2).due == 115.0
    assert pulse.forgive(30.0, 145.0).due == 160.0
