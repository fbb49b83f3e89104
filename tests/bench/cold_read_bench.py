"""Reading all of an image on a node that has nothing: ``cold.read.*``, from pull to last byte."""

from __future__ import annotations

import statistics
import sys
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.bench import estargz, report
from tests.bench.cold_bench import LINKS, TIMEOUT_S
from tests.bench.cold_stage import stage
from tests.bench.workloads import PYTHON
from tests.support import sweep
from thinfs.bench.measure import Plan, measure
from thinfs.bench.values import Ready

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.cold_stage import Stage
    from tests.support.image_cache import Layout

RUNS: Final = 3
LINK: Final = "1gbit"
_ALL: Final = ("sh", "-c", "find / -xdev -type f -exec cat {} + > /dev/null")
_READ: Final = replace(PYTHON, command=_ALL, ready=Ready("exit"))


def run(prefixes: Sequence[str] = ()) -> list[report.Values]:
    """Measure the image of Python and its packages."""
    if not report.asked("cold.read.", prefixes):
        return []
    folder = sweep.make_folder("read-bench")
    try:
        with stage(folder) as on:
            return list(_measure(on))
    finally:
        sweep.sweep_folder(folder)


def _measure(on: Stage) -> Iterator[report.Values]:
    contestants = [on.thin(_READ), on.overlayfs(_READ)]
    if estargz.installed():
        contestants.append(on.estargz(_READ))
    plan = Plan(
        image=_READ.name,
        contestants=tuple(contestants),
        command=_READ.command,
        ready=_READ.ready,
        link=LINKS[LINK],
        runs=RUNS,
        timeout_s=TIMEOUT_S,
    )
    measured = measure(plan, lambda line: print(f"    {line}", file=sys.stderr, flush=True))
    megabytes = _content_bytes(_READ.image()) / 1e6
    rates = {
        series.name: megabytes / statistics.median(start.ready_s for start in series.cold)
        for series in measured.series
    }
    yield report.figure("cold.read.lazy", rates["lazy"], "MB/s", rates["overlayfs"])
    if "estargz" in rates:
        yield report.at_least("cold.read.estargz", rates["lazy"], "MB/s", rates["estargz"], 1.0)


def _content_bytes(image: Layout) -> int:
    """All bytes of all files; no file of this image hides another one."""
    blobs = (image.directory / "blobs/sha256").iterdir()
    layers = [blob for blob in blobs if tarfile.is_tarfile(blob)]
    return sum(entry.size for layer in layers for entry in tarfile.open(layer) if entry.isreg())
