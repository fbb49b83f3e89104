"""How fast a node is filled before anybody asks: ``warm.all.*``.

The whole Python image comes from a repository on the same disk into an empty cache; then the same
command again. Times are those of the command, from its start to its end.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from typing import TYPE_CHECKING, Any

from tests.bench.report import asked, bounded
from tests.support import sweep
from tests.support.daemons import Node
from tests.support.science_image import python_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RUNS = 3
NAME = "docker.io/library/python:thin"
LEAST_FILES_PER_S = 3_000
AGAIN_WITHIN_S = 0.5


def run(prefixes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Warm, and warm again; medians."""
    if not asked("warm.all.", prefixes):
        return []
    folder = sweep.make_folder("warming-bench")
    try:
        node = Node(folder)
        node.thinfs("convert", python_image().source, "--name", NAME)
        rates, agains = zip(*(_measure(node, folder / "cache") for _ in range(RUNS)), strict=True)
    finally:
        sweep.sweep_folder(folder)
    rate = round(statistics.median(rates))
    return [
        {
            "name": "warm.all.python",
            "value": rate,
            "unit": "files/s",
            "goal": LEAST_FILES_PER_S,
            "met": rate >= LEAST_FILES_PER_S,
        },
        bounded("warm.all.again", statistics.median(agains), "s", AGAIN_WITHIN_S),
    ]


def _measure(node: Node, cache: Path) -> tuple[float, float]:
    """Files per second into an empty cache, and seconds of a second warm."""
    shutil.rmtree(cache, ignore_errors=True)
    first = time.perf_counter()
    done = json.loads(node.thinfs("warm", "--all", "--pin", "--json", NAME))
    second = time.perf_counter()
    again = json.loads(node.thinfs("warm", "--all", "--pin", "--json", NAME))
    end = time.perf_counter()
    assert done["images"][0]["state"] == "warmed"
    assert again["images"][0]["state"] == "complete"
    return done["images"][0]["files"] / (second - first), end - second
