from __future__ import annotations

import threading

from snapshotter.uses import Uses
from tests.support.wait import wait_until


def test_sole_use_is_refused_while_anybody_uses_the_snapshot() -> None:
    uses = Uses()
    with uses.shared(1), uses.shared(1):
        with uses.sole(1) as mine:
            assert not mine
        with uses.sole(2) as mine:
            assert mine
    with uses.sole(1) as mine:
        assert mine


def test_sole_use_is_had_by_one_at_a_time() -> None:
    uses = Uses()
    with uses.sole(1) as first:
        with uses.sole(1) as second:
            assert (first, second) == (True, False)
        with uses.sole(1) as third:
            assert not third


def test_shared_use_waits_for_the_end_of_sole_use() -> None:
    uses = Uses()
    steps: list[str] = []
    started = threading.Event()

    def use() -> None:
        started.set()
        with uses.shared(1):
            steps.append("used")

    with uses.sole(1):
        thread = threading.Thread(target=use)
        thread.start()
        started.wait()
        steps.append("deleted")
    thread.join()
    assert steps == ["deleted", "used"]


def test_use_ends_also_by_an_error() -> None:
    uses = Uses()
    for use in (uses.shared, uses.sole):
        try:
            with use(1):
                raise ValueError
        except ValueError:
            pass
    with uses.sole(1) as mine:
        wait_until(lambda: mine, "sole use")
