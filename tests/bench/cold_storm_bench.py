"""Twenty containers of five images at once on a node that has nothing: ``cold.storm.*``.

Two of the images have most of their layers in common with another one, as images of one team
do. Each image is pulled once, and then four containers of it are started together.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.bench import report
from tests.bench.cold_bench import LINKS
from tests.bench.cold_stage import stage
from tests.bench.derived_image import derived
from tests.bench.workloads import JUPYTER, PYTHON, REDIS, Workload
from tests.support import sweep
from thinfs.bench import nodes
from thinfs.bench.containerd import Containerd
from thinfs.bench.leftovers import kill_marked, unmount_below
from thinfs.bench.measure import DEFAULT_SCRATCH, drop_page_cache
from thinfs.bench.network import Network
from thinfs.bench.observer import Observer
from thinfs.bench.processes import run as run_command
from thinfs.bench.processes import wait_until
from thinfs.bench.scratch import scratch
from thinfs.bench.values import Ready

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.bench.cold_stage import Stage
    from thinfs.bench.values import Contestant

LINK: Final = LINKS["1gbit"]
CONTAINERS: Final = 20
TIMEOUT_S: Final = 600.0
SPREAD_GOAL: Final = 2.0
_REDIS_ALIKE: Final = Workload(
    "redis-alike",
    lambda: derived(REDIS.image(), "redis-alike", {"etc/redis/site.conf": b"save 60 1\n"}),
    (),
    REDIS.ready,
)
_PYTHON_ALIKE: Final = Workload(
    "python-alike",
    lambda: derived(PYTHON.image(), "python-alike", {"srv/app.py": b"import sklearn.svm\n"}),
    ("python3", "/srv/app.py"),
    Ready("exit"),
)
IMAGES: Final = (REDIS, PYTHON, JUPYTER, _REDIS_ALIKE, _PYTHON_ALIKE)
_OBJECT: Final = re.compile(r'"GET (/objects/\S+) [^"]*" 200 ')


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of one.

    Attributes:
        ready_s: by image, of each of its containers, since the first pull began; ascending.
        bytes: payload that had reached the node when the last one was ready.
    """

    ready_s: dict[str, list[float]]
    bytes: int

    @property
    def last_s(self) -> float:
        """When all were ready."""
        return max(times[-1] for times in self.ready_s.values())

    @property
    def spread(self) -> float:
        """How much longer the slowest container took than the fastest of the same image."""
        return max(times[-1] / times[0] for times in self.ready_s.values())


def run(prefixes: Sequence[str] = ()) -> list[report.Values]:
    """Measure one storm with each contestant."""
    if not report.asked("cold.storm.", prefixes):
        return []
    folder = sweep.make_folder("storm-bench")
    try:
        with stage(folder, log=folder / "requests.log") as on:
            return list(_measure(on, folder / "requests.log"))
    finally:
        sweep.sweep_folder(folder)


def _measure(on: Stage, log: Path) -> Iterator[report.Values]:
    full = _storm([on.overlayfs(work) for work in IMAGES])
    contestants = [on.profiled(work) for work in IMAGES]
    log.write_text("")
    ours = _storm(contestants)
    fetched = objects(log.read_text())
    yield report.figure("cold.storm.ready", ours.last_s, "s", full.last_s)
    yield report.figure("cold.storm.mb", ours.bytes / 1e6, "MB", full.bytes / 1e6)
    yield report.figure("cold.storm.objects", fetched.total(), "objects")
    yield report.bounded("cold.storm.twice", fetched.total() - len(fetched), "objects", 0)
    yield report.bounded("cold.storm.spread", ours.spread, "times", SPREAD_GOAL, full.spread)


def objects(log: str) -> Counter[str]:
    """How often a web server's log has each object."""
    return Counter(_OBJECT.findall(log))


def _storm(contestants: Sequence[Contestant]) -> Storm:
    """One world, all pulls and starts in it."""
    print(f"  cold.storm: {contestants[0].name}", file=sys.stderr, flush=True)
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(scratch(DEFAULT_SCRATCH))
        folder = place.folder / "w"
        stack.callback(unmount_below, folder)
        stack.callback(kill_marked, folder)
        (folder / "n").mkdir(parents=True)
        network = stack.enter_context(Network(place.slot, LINK, place.folder))
        for port in contestants[0].serving:
            network.expose(port)
        node = stack.enter_context(nodes.running(contestants[0], network, folder / "n"))
        containerd = stack.enter_context(
            Containerd(folder / "c", network, place.name, node.snapshotters)
        )
        drop_page_cache()
        return _run_all(contestants, containerd, network, stack)


def _run_all(
    contestants: Sequence[Contestant],
    containerd: Containerd,
    network: Network,
    stack: contextlib.ExitStack,
) -> Storm:
    pool = stack.enter_context(ThreadPoolExecutor(CONTAINERS + len(contestants)))
    observer = stack.enter_context(Observer(network))
    before, began = observer.received(), time.time()
    each = CONTAINERS // len(IMAGES)

    def pull_and_start(work: Workload, contestant: Contestant) -> list[float]:
        snapshotter = f"--snapshotter={contestant.snapshotter}"
        containerd.ctr("images", "pull", snapshotter, contestant.image, timeout_s=TIMEOUT_S)
        starts = [
            pool.submit(_start, containerd, work, contestant, f"{work.name}-{number}")
            for number in range(each)
        ]
        return sorted(start.result() - began for start in starts)

    for work in IMAGES:
        for number in range(each):
            stack.callback(containerd.end, f"{work.name}-{number}")
    pulls = [
        (work.name, pool.submit(pull_and_start, work, contestant))
        for work, contestant in zip(IMAGES, contestants, strict=True)
    ]
    ready = {name: pull.result() for name, pull in pulls}
    return Storm(ready, observer.received() - before)


def _start(containerd: Containerd, work: Workload, contestant: Contestant, name: str) -> float:
    """Start a container; when it was ready, as ``time.time()``."""
    output = containerd.folder / f"{name}.log"
    options = ["run", f"--snapshotter={contestant.snapshotter}", f"--log-uri=file://{output}"]
    if work.ready.kind == "exit":
        options.append("--rm")
    else:
        options.append("--detach")
    argv = containerd.ctr_argv(*options, contestant.image, name, *work.command)
    run_command(argv, timeout_s=TIMEOUT_S)
    if work.ready.kind == "line":
        wait_until(
            lambda: output.exists() and re.search(work.ready.text, output.read_text()) is not None,
            f"{name} to be ready",
            timeout_s=TIMEOUT_S,
        )
    return time.time()
