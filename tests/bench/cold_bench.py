"""How long a container takes to be ready on a node that has nothing: ``cold.*``.

``cold.<workload>.<link>.<what>``, each a median of cold starts, in turn with all contestants:

========================  ========================================================================
``overlayfs``             containerd's own: the whole image is pulled and unpacked
``estargz``               stargz-snapshotter, an image that nobody has optimised
``optimised``             stargz-snapshotter, optimised by running the workload
``lazy``                  thinfs without a boot profile, beside ``estargz``
``profile``               thinfs with one, beside ``optimised``
``profile.ideal``         the same beside what cannot be avoided: a warm start on overlayfs, the
                          bytes that came at the link's rate, and three round trips
``profile.bytes``         its bytes beside those of what the workload touches, compressed
``<any of them>.mb``      MB that had reached the node until it was ready
========================  ========================================================================
"""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING, Final

from tests.bench import estargz, report
from tests.bench.cold_stage import stage
from tests.bench.workloads import WORKLOADS
from tests.support import sweep
from thinfs.bench.measure import Plan, measure
from thinfs.bench.values import parse_link

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.cold_stage import Stage
    from tests.bench.workloads import Workload
    from thinfs.bench.values import Contestant, Link, Report, Series

RUNS: Final = 3
TIMEOUT_S: Final = 600.0
ROUND_TRIPS: Final = 3
LINKS: Final = {"1gbit": parse_link("1gbit,1ms"), "100mbit": parse_link("100mbit,10ms")}
LAZY_GOAL: Final = 1.0
PROFILE_GOAL: Final = 0.9
IDEAL_GOAL: Final = 1.25

# Seconds of optimised eStargz to those of overlayfs, by workload and link: what its place is
# taken by where it cannot be installed. Measured with stargz-snapshotter 0.12.
PEER_TO_OVERLAYFS: Final = {
    ("redis", "1gbit"): 0.14,
    ("redis", "100mbit"): 0.105,
    ("python", "1gbit"): 0.23,
    ("python", "100mbit"): 0.20,
    ("jupyter", "1gbit"): 0.12,
    ("jupyter", "100mbit"): 0.067,
}


def run(prefixes: Sequence[str] = ()) -> list[report.Values]:
    """Measure all workloads on all links, or those that have figures with the prefixes."""
    rows: list[report.Values] = []
    folder = sweep.make_folder("cold-bench")
    try:
        with stage(folder) as on:
            for work in WORKLOADS:
                links = [
                    name for name in LINKS if report.asked(f"cold.{work.name}.{name}.", prefixes)
                ]
                if links:
                    contestants = _contestants(on, work)
                    for name in links:
                        rows += _compare(work, name, contestants)
    finally:
        sweep.sweep_folder(folder)
    return rows


def _contestants(on: Stage, work: Workload) -> tuple[Contestant, ...]:
    ours = (on.thin(work), on.profiled(work))
    if not estargz.installed():
        return (*ours, on.overlayfs(work))
    return (*ours, on.overlayfs(work), on.estargz(work), on.optimised(work))


def _compare(
    work: Workload, link_name: str, contestants: tuple[Contestant, ...]
) -> Iterator[report.Values]:
    link = LINKS[link_name]
    plan = Plan(
        image=work.name,
        contestants=contestants,
        command=work.command,
        ready=work.ready,
        link=link,
        runs=RUNS,
        warm=True,
        timeout_s=TIMEOUT_S,
    )
    print(f"  cold.{work.name}.{link_name}", file=sys.stderr, flush=True)
    measured = measure(plan, lambda line: print(f"    {line}", file=sys.stderr, flush=True))
    yield from _rows(measured, f"cold.{work.name}.{link_name}", _peer(work, link_name, measured))
    profile = _series(measured, "profile")
    if profile:
        ideal = _ideal_s(measured, link)
        seconds = _seconds(profile)
        yield report.figure(
            f"cold.{work.name}.{link_name}.profile.ideal", seconds, "s", ideal, IDEAL_GOAL
        )


def _rows(measured: Report, name: str, peers: dict[str, float]) -> Iterator[report.Values]:
    goals = {"lazy": LAZY_GOAL, "profile": PROFILE_GOAL}
    for series in measured.series:
        label, seconds = series.name, _seconds(series)
        yield report.figure(f"{name}.{label}", seconds, "s", peers.get(label), goals.get(label))
        yield report.figure(f"{name}.{label}.mb", _bytes(series) / 1e6, "MB")


def _peer(work: Workload, link_name: str, measured: Report) -> dict[str, float]:
    """What the two of ours have to be measured by, in seconds."""
    optimised, plain = _series(measured, "optimised"), _series(measured, "estargz")
    if optimised and plain:
        return {"lazy": _seconds(plain), "profile": _seconds(optimised)}
    full = _series(measured, "overlayfs")
    assert full is not None
    return {"profile": _seconds(full) * PEER_TO_OVERLAYFS[work.name, link_name]}


def _ideal_s(measured: Report, link: Link) -> float:
    """A start that waits for nothing but its bytes."""
    full, profile = _series(measured, "overlayfs"), _series(measured, "profile")
    assert full is not None
    assert profile is not None
    warm = statistics.median(start.ready_s for start in full.warm)
    return warm + _bytes(profile) * 8 / link.bits_per_s + ROUND_TRIPS * link.round_trip_s


def _series(measured: Report, name: str) -> Series | None:
    return next((each for each in measured.series if each.name == name), None)


def _seconds(series: Series) -> float:
    return statistics.median(start.ready_s for start in series.cold)


def _bytes(series: Series) -> float:
    return statistics.median(start.traffic.bytes for start in series.cold)
