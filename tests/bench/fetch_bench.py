"""What it costs to bring objects from a web server: ``fetch.*``.

nginx on loopback serves frames that do not compress, of 20 KB and of 500 KB. The reference is
httpx, the other client that is here, driven by the same loop; both fetch the same files, eight
at a time, in turn. ``fetch.*.verified`` is the whole way that an object goes, decompressed and
compared with its digest. ``fetch.*.curl`` is the command ``curl --parallel``, which writes
nothing and checks nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import httpx
import trio

from tests.support import sweep
from tests.support.reading import World, patterned
from tests.support.servers import nginx
from thinfs.config import SourcesConfig
from thinfs.fetch.fetcher import Fetcher
from thinfs.store.source import open_source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from thinfs.store.source import Source

RUNS = 5
AT_ONCE = 8
SIZES = {"small": (20_000, 600), "large": (500_000, 120)}
CPU_GOAL = 0.25
Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request: seconds on the clock and on this process's processors."""

    seconds: float
    cpu_s: float


def run() -> list[Row]:
    """Measure both sizes; medians of some runs."""
    folder = sweep.make_folder("fetch-bench")
    try:
        return [
            row
            for label, (size, count) in SIZES.items()
            for row in _compare(label, size, count, folder / label)
        ]
    finally:
        sweep.sweep_folder(folder)


def _compare(label: str, size: int, count: int, folder: Path) -> list[Row]:
    world = World()
    for seed in range(count):
        world.add_object(patterned(size, seed))
    world.write(folder / "repo")
    (folder / "work").mkdir()
    with nginx(folder / "repo", folder / "work") as url:
        theirs, ours, verified, plain = [], [], [], []
        for _ in range(RUNS):
            theirs.append(trio.run(_by_httpx, world, url))
            ours.append(trio.run(_by_source, world, url))
            verified.append(trio.run(_by_fetcher, world, url))
            plain.append(_by_curl(world, url))
    cpu, reference = _median_ms(ours, "cpu_s"), _median_ms(theirs, "cpu_s")
    megabytes = size / 1e6
    return [
        {
            "name": f"fetch.{label}.cpu",
            "value": round(cpu, 3),
            "unit": "ms of CPU each",
            "reference": round(reference, 3),
            "ratio": round(cpu / reference, 3),
            "goal": CPU_GOAL,
            "met": cpu <= reference * CPU_GOAL,
        },
        _fact(f"fetch.{label}", 1000 / _median_ms(ours, "seconds"), "objects/s"),
        _fact(f"fetch.{label}.httpx", 1000 / _median_ms(theirs, "seconds"), "objects/s"),
        _fact(f"fetch.{label}.curl", 1 / statistics.median(plain), "objects/s"),
        _fact(f"fetch.{label}.verified", 1000 / _median_ms(verified, "seconds"), "objects/s"),
        _fact(f"fetch.{label}.verified.cpu", _median_ms(verified, "cpu_s"), "ms of CPU each"),
        _fact(
            f"fetch.{label}.verified.rate",
            1000 * megabytes / _median_ms(verified, "seconds"),
            "MB/s",
        ),
    ]


def _median_ms(costs: list[Cost], what: str) -> float:
    return float(statistics.median(getattr(cost, what) for cost in costs)) * 1000


def _fact(name: str, value: float, unit: str) -> Row:
    fact: Row = dict.fromkeys(("reference", "ratio", "goal"))
    return fact | {"name": name, "value": round(value, 3), "unit": unit, "met": True}


async def _by_httpx(world: World, url: str) -> Cost:
    async with httpx.AsyncClient() as client:

        async def get(path: str) -> bytes:
            return (await client.get(f"{url}{path}")).content

        return await _all(world, get)


async def _by_source(world: World, url: str) -> Cost:
    source = open_source(url, SourcesConfig())
    try:
        return await _all(world, partial(source.get, max_bytes=1 << 20))
    finally:
        await source.aclose()


async def _by_fetcher(world: World, url: str) -> Cost:
    source: Source = open_source(url, SourcesConfig())
    refs = dict(zip(world.files, world.objects.values(), strict=True))
    try:
        async with trio.open_nursery() as nursery:
            fetcher = Fetcher(nursery, [source], SourcesConfig())
            cost = await _all(world, lambda path: fetcher.object(refs[path], ()))
            nursery.cancel_scope.cancel()
        return cost
    finally:
        await source.aclose()


async def _all(world: World, get: Callable[[str], Awaitable[bytes]]) -> Cost:
    """Bring every file once, :data:`AT_ONCE` at a time; connections are made before."""
    await get(next(iter(world.files)))
    left = iter(world.files)

    async def worker() -> None:
        for path in left:
            await get(path)

    began, busy = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as workers:
        for _ in range(AT_ONCE):
            workers.start_soon(worker)
    count = len(world.files)
    return Cost((time.perf_counter() - began) / count, (time.process_time() - busy) / count)


def _by_curl(world: World, url: str) -> float:
    """Seconds for each file."""
    each = [part for path in world.files for part in (f"{url}{path}", "-o", "/dev/null")]
    command = ["curl", "--silent", "--fail", "--parallel", "--parallel-max", str(AT_ONCE), *each]
    began = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - began) / len(world.files)
