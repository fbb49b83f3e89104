"""How fast images are converted, beside a full unpack of the same image: ``convert.*``.

The reference is ``umoci unpack``, the common tool that does the least to an image: it writes
the files to disk. Both read the same OCI layout; runs alternate, so that what else the machine
does meets both.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support.redis_image import redis_image
from tests.support.science_image import jupyter_image

if TYPE_CHECKING:
    from tests.support.image_cache import Layout

RUNS = 3
Row = dict[str, object]


class Measured(NamedTuple):
    """One run: how long it took, and the most memory it had."""

    seconds: float
    peak_mib: float


def run() -> list[Row]:
    """Measure both images; ratios are of medians."""
    with tempfile.TemporaryDirectory(prefix="convert-bench-") as name:
        folder = Path(name)
        rows = []
        for label, image in (("debian", redis_image()), ("jupyter", jupyter_image())):
            rows += _compare(label, image, folder)
        return rows


def _compare(label: str, image: Layout, folder: Path) -> list[Row]:
    ours, umocis, again = [], [], []
    for _ in range(RUNS):
        umocis.append(_timed(["umoci", "unpack", "--image", _plain(image), folder / "bundle"]))
        shutil.rmtree(folder / "bundle")
        command = _convert(image, folder / "repo")
        ours.append(_timed(command))
        again.append(_timed(command))
        size = _body_bytes(folder / "repo")
        shutil.rmtree(folder / "repo")
    taken, reference = _median(ours), _median(umocis)
    return [
        {
            "name": f"convert.{label}",
            "value": round(taken, 2),
            "unit": "s",
            "reference": round(reference, 2),
            "ratio": round(taken / reference, 3),
            "goal": 1.0,
            "met": taken <= reference,
        },
        _fact(f"convert.{label}.again", _median(again), "s"),
        _fact(f"convert.{label}.speed", size / taken / 1e6, "MB/s of files"),
        _fact(
            f"convert.{label}.memory",
            max(each.peak_mib for each in ours),
            "MiB at most",
            goal=500.0,
        ),
    ]


def _fact(name: str, value: float, unit: str, goal: float | None = None) -> Row:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "reference": None,
        "ratio": None,
        "goal": goal,
        "met": goal is None or value <= goal,
    }


def _median(runs: list[Measured]) -> float:
    return statistics.median(each.seconds for each in runs)


def _plain(image: Layout) -> str:
    """The image as umoci names it."""
    return f"{image.directory}:{image.tag}"


def _convert(image: Layout, repository: Path) -> list[str | Path]:
    thinfs = [sys.executable, "-m", "thinfs.cli.main"]
    return [*thinfs, "convert", "--no-containerd", "--json", "--repo", repository, image.source]


def _timed(command: list[str | Path]) -> Measured:
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        taken = time.perf_counter() - started
        if process.returncode != 0:
            log.seek(0)
            raise RuntimeError(f"{command[0]} failed: {log.read()[-400:]!r}")
    return Measured(taken, usage.ru_maxrss / 1024)


def _body_bytes(repository: Path) -> int:
    roots = [json.loads(path.read_bytes()) for path in (repository / "roots").iterdir()]
    return sum(root["content_bytes"] for root in roots)
