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
``profile.pulled``        the same, with the pull of an image of one small file among what cannot
                          be avoided: warm starts pull nothing
``profile.bytes``         its bytes beside those of what the workload touches, compressed
``<any of them>.mb``      MB that had reached the node until it was ready
========================  ========================================================================
"""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING, Final

from tests.bench import cold_rows, estargz, report
from tests.bench.cold_stage import stage
from tests.bench.workloads import SMALL, WORKLOADS
from tests.support import sweep
from thinfs.bench.measure import Plan, measure
from thinfs.bench.values import parse_link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.cold_stage import Stage
    from tests.bench.workloads import Workload
    from thinfs.bench.values import Contestant, Link, Report

RUNS: Final = 3
TIMEOUT_S: Final = 600.0
LINKS: Final = {"1gbit": parse_link("1gbit,1ms"), "100mbit": parse_link("100mbit,10ms")}

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
    asked = [
        (work, link)
        for work in WORKLOADS
        for link in LINKS
        if report.asked(f"cold.{work.name}.{link}.", prefixes)
    ]
    if not asked:
        return []
    folder = sweep.make_folder("cold-bench")
    try:
        with stage(folder) as on:
            return _measure_all(on, asked)
    finally:
        sweep.sweep_folder(folder)


def _measure_all(on: Stage, asked: Sequence[tuple[Workload, str]]) -> list[report.Values]:
    found: list[report.Values] = []
    pulls = {link: _pull_s(on, LINKS[link]) for link in dict.fromkeys(link for _, link in asked)}
    contestants = {work.name: _contestants(on, work) for work in dict(asked)}
    for work, link in asked:
        name = f"cold.{work.name}.{link}"
        print(f"  {name}", file=sys.stderr, flush=True)
        measured = _measured(work, LINKS[link], contestants[work.name])
        found += cold_rows.rows(
            name,
            measured,
            LINKS[link],
            pull_s=pulls[link],
            touched=on.touched_bytes(work),
            peer=PEER_TO_OVERLAYFS[work.name, link],
        )
    return found


def _contestants(on: Stage, work: Workload) -> tuple[Contestant, ...]:
    ours = (on.thin(work), on.profiled(work))
    if not estargz.installed():
        return (*ours, on.overlayfs(work))
    return (*ours, on.overlayfs(work), on.estargz(work), on.optimised(work))


def _pull_s(on: Stage, link: Link) -> float:
    """How long containerd takes to pull and unpack the least that can be pulled."""
    measured = _measured(SMALL, link, (on.overlayfs(SMALL),))
    return statistics.median(start.pulled_s for start in measured.series[0].cold)


def _measured(work: Workload, link: Link, contestants: tuple[Contestant, ...]) -> Report:
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
    return measure(plan, lambda line: print(f"    {line}", file=sys.stderr, flush=True))
