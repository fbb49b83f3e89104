"""How long a node that has nothing takes until a root is there: ``cold.attach``.

===============================  =================================================================
``cold.attach``                  a root of 1 000 000 files, beside one of 1 000: the time from the
                                 request until its directory is mounted; medians, in turn
``cold.attach.first_read``       the same until one small file has been read
===============================  =================================================================
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench import report
from tests.support import sweep
from tests.support.lazy import with_boot
from tests.support.repositories import directory, file, make_root, tree
from tests.support.sites import Site
from thinfs.convert.cutting import piece_bytes
from thinfs.store.layout import MAX_OBJECT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.model import Entry
    from tests.support.repositories import MadeRoot

SMALL: Final = 1_000
LARGE: Final = 1_000_000
FILES_OF_A_DIRECTORY: Final = 1_000
BYTES_OF_AN_INODE: Final = 220
RUNS: Final = 5
GOAL: Final = 1.3
HOT: Final = b"what a start reads\n"


def run() -> list[report.Values]:
    """Measure both sizes in turn."""
    folder = sweep.make_folder("attach-bench")
    try:
        roots = {count: _root(folder / f"r{count}", count) for count in (SMALL, LARGE)}
        times: dict[int, list[tuple[float, float]]] = {count: [] for count in roots}
        for number in range(RUNS):
            for count, made in roots.items():
                times[count].append(_attach(folder / f"n{number}-{count}", made))
        return [
            _figure("cold.attach", times, 0),
            _figure("cold.attach.first_read", times, 1),
        ]
    finally:
        sweep.sweep_folder(folder)


def _figure(name: str, times: dict[int, list[tuple[float, float]]], which: int) -> report.Values:
    large, small = (statistics.median(t[which] for t in times[n]) for n in (LARGE, SMALL))
    return report.figure(name, large, "s", small, GOAL)


def _root(repository: Path, count: int) -> MadeRoot:
    made = make_root(repository, tree(*_files(count)))
    piece = piece_bytes(count * BYTES_OF_AN_INODE, MAX_OBJECT_BYTES)
    return with_boot(repository, made, [HOT], hot_pieces=2, piece_bytes=piece)


def _files(count: int) -> Iterator[tuple[Entry, bytes]]:
    yield directory(b"")
    yield file(b"a-hot", HOT)
    for number in range(count):
        place = b"d%04d" % (number // FILES_OF_A_DIRECTORY)
        if number % FILES_OF_A_DIRECTORY == 0:
            yield directory(place)
        yield file(place + b"/f%03d" % (number % FILES_OF_A_DIRECTORY), b"%d\n" % (number % 5000))


def _attach(folder: Path, made: MadeRoot) -> tuple[float, float]:
    """Seconds until a root is there, and until a file of it has been read, on a new node."""
    folder.mkdir()
    assert made.recipe.thinfs is not None
    site = Site(
        folder,
        sources={"allow": made.recipe.thinfs.repositories},
        daemon={"root_mode": "native"},
    )
    with site.daemon(), site.client() as client:
        client.roots()  # the connection is there
        began = time.perf_counter()
        root = client.attach("bench", made.text)
        attached = time.perf_counter()
        assert (Path(root.directory) / "a-hot").read_bytes() == HOT
        return attached - began, time.perf_counter() - began
