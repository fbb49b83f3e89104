"""Recording: starting containers in worlds of their own where every first read is seen.

A world's caches are empty and its mounts new, so no page and no name hides a read; its daemon
serves every content itself and fetches nothing ahead. The kernel reads ahead on the mount as far as
it will at every start, so that what it reads then is what it read when it was recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from thinfs.bench.measure import Plan, measure_in
from thinfs.bench.values import Thin
from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from thinfs.bench.contestants import Lineup
    from thinfs.bench.scratch import Scratch
    from thinfs.bench.values import Ready, Start
    from thinfs.control.values import Trace

_RECORDING: Final = ("daemon", "recording", True)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One start.

    Attributes:
        trace: of the root, from its attachment on.
        started_s: when the container's process was let go, on the trace's clock.
        ready_s: when it was ready, on the same.
    """

    trace: Trace
    started_s: float
    ready_s: float


def record(
    place: Scratch,
    found: Lineup,
    *,
    image: str,
    command: tuple[str, ...],
    ready: Ready,
    runs: int,
    timeout_s: float,
    say: Callable[[str], None],
) -> list[Recorded]:
    """Start an image's containers and see what they read until they are ready.

    Args:
        place: where the worlds are made.
        found: the thin image alone.
        image: its name, for people.
        command: in place of the image's; empty: its own.
        ready: when it counts as ready.
        runs: how many starts.
        timeout_s: longest start; a recorded one is a few times slower than a cold one.
        say: hears one line for people at each step.

    Raises:
        StoreError: it was not ready in time, a program failed, or the trace has gaps.
        ThinfsError: as :func:`thinfs.bench.measure.measure`.
    """
    recorded: list[Recorded] = []

    def witness(trace: Trace, start: Start) -> None:
        shift = start.began_unix_s - trace.began_unix_s
        recorded.append(Recorded(trace, start.started_s + shift, start.ready_s + shift))

    contestant = found.contestants[0]
    assert isinstance(contestant.node, Thin)
    node = replace(contestant.node, settings=(*contestant.node.settings, _RECORDING))
    plan = Plan(
        image=image,
        contestants=(replace(contestant, node=node),),
        command=command,
        ready=ready,
        runs=runs,
        timeout_s=timeout_s,
        hosts_dir=found.hosts_dir,
        plain_http=found.plain_http,
        logins=found.logins,
        witness=witness,
    )
    measure_in(place, plan, say)
    if len(recorded) != runs or any(each.trace.dropped for each in recorded):
        raise StoreError("the daemon did not tell all that was read: nothing is recorded")
    return recorded
