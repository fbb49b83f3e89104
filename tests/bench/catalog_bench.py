"""How fast catalogs are written, read and merged: ``catalog.*``.

The tree is one that package managers leave: many directories of some forty files with long
common prefixes, one content a file, a bundle of contents an object.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.merge import merge
from catalog.model import Content, Entry, Extent, ObjectRef, TreeKind
from catalog.reader import CatalogReader
from catalog.writer import CatalogWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNS = 3
ENTRIES = 100_000
LAYERS = (40_000, 16_000, 8_000, 2_000)
LOOKUPS = 20_000
FILES_IN_DIRECTORY = 40
CONTENTS_IN_OBJECT = 50
START_NS = 1_700_000_000_000_000_000

Row = dict[str, object]


def run() -> list[Row]:
    """Measure and compare with the goals; medians of some runs."""
    with tempfile.TemporaryDirectory(prefix="catalog-bench-") as name:
        folder = Path(name)
        entries = list(tree(ENTRIES, salt=0))
        written = median(lambda: write(folder / "layer", entries))
        looked_up = median(lambda: look_up(folder / "layer", entries))
        merged = merging(folder)
    return [
        row("catalog.write_100k", written, "s", goal=5.0),
        row("catalog.lookup", looked_up * 1e6, "µs", goal=30.0),
        row("catalog.merge_66k", merged, "s", goal=None),
    ]


def row(name: str, value: float, unit: str, *, goal: float | None) -> Row:
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "reference": None,
        "ratio": None,
        "goal": goal,
        "met": goal is None or value <= goal,
    }


def median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(RUNS))


def tree(count: int, *, salt: int) -> Iterator[Entry]:
    """About ``count`` entries; trees with different salts share directories, not files."""
    for number in range(count // (FILES_IN_DIRECTORY + 1)):
        folder = b"usr/lib/python3/dist-packages/package%d/module%d" % (number % 97, number)
        yield Entry(folder, mode=0o40755, mtime_ns=START_NS)
        for index in range(FILES_IN_DIRECTORY):
            digest = hashlib.sha256(b"%d %d %d" % (salt, number, index)).digest()
            yield Entry(
                folder + b"/some_source_file_%d_%d.py" % (salt, index),
                mode=0o100644,
                mtime_ns=START_NS + number * 1_000_000_000,
                size=1000 + index,
                content=digest,
            )


def write(path: Path, entries: list[Entry]) -> float:
    """Seconds to write a layer, contents and objects included."""
    start = time.perf_counter()
    with CatalogWriter(path, TreeKind.LAYER) as writer:
        count = 0
        for entry in entries:
            writer.add(entry)
            if entry.content is not None:
                number, place = divmod(count, CONTENTS_IN_OBJECT)
                holder = hashlib.sha256(b"object %d" % number).digest()
                if place == 0:
                    writer.add_object(ObjectRef(holder, 1 << 20, 400_000))
                extent = Extent(0, entry.size, holder, place * 1100)
                writer.add_content(Content(entry.content, entry.size, (extent,)))
                count += 1
        writer.finish()
    return time.perf_counter() - start


def look_up(path: Path, entries: list[Entry]) -> float:
    """Seconds for one name in one directory, names taken at random."""
    chosen = random.Random(7).sample(entries, LOOKUPS)
    with CatalogReader.open(path) as reader:
        numbers: dict[bytes, int] = {}
        names = []
        for entry in chosen:
            folder, _, name = entry.path.rpartition(b"/")
            if folder not in numbers:
                node = reader.resolve(folder)
                assert node is not None
                numbers[folder] = node.ino
            names.append((numbers[folder], name))
        start = time.perf_counter()
        found = [reader.lookup(parent, name) for parent, name in names]
        taken = time.perf_counter() - start
    assert None not in found
    return taken / len(names)


def merging(folder: Path) -> float:
    """Seconds to merge layers of 66 000 entries in all."""
    paths = [folder / f"layer-{index}" for index in range(len(LAYERS))]
    for salt, (path, count) in enumerate(zip(paths, LAYERS, strict=True), 1):
        write(path, list(tree(count, salt=salt)))
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(CatalogReader.open(path)) for path in paths]

        def once() -> float:
            start = time.perf_counter()
            merge(readers, folder / "root")
            return time.perf_counter() - start

        return median(once)
