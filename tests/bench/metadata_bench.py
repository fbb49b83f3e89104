"""How fast metadata images are rendered, and how large they are: ``metadata.*``.

The trees are those of ``catalog.*``: no two files share a content, so that digests weigh more
than in an image of a distribution.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import zstandard

from catalog import erofs
from catalog.merge import merge
from catalog.reader import CatalogReader
from tests.bench.catalog_bench import Row, row, tree, write

RUNS = 5
SPEED_ENTRIES = 100_000
SIZE_ENTRIES = 66_000
STORED_LEVEL = 3


def run() -> list[Row]:
    """Measure and compare with the goals; medians of some runs."""
    with tempfile.TemporaryDirectory(prefix="metadata-bench-") as name:
        folder = Path(name)
        with CatalogReader.open(root(folder, SPEED_ENTRIES)) as reader:
            runs = [rendering(reader, folder / "image") for _ in range(RUNS)]
        with CatalogReader.open(root(folder, SIZE_ENTRIES)) as reader:
            erofs.render(reader, folder / "image")
        raw = (folder / "image").read_bytes()
    stored = len(zstandard.compress(raw, STORED_LEVEL))
    taken, busy = (statistics.median(each) for each in zip(*runs, strict=True))
    return [
        row("metadata.render_100k", taken, "s", goal=2.0),
        row("metadata.render_100k.cpu", busy, "s", goal=None),
        row("metadata.size_66k", len(raw) / 1e6, "MB", goal=None),
        row("metadata.size_66k.stored", stored / 1e6, "MB", goal=None),
    ]


def root(folder: Path, count: int) -> Path:
    """The catalog of a root of about ``count`` entries."""
    write(folder / "layer", list(tree(count, salt=0)))
    with CatalogReader.open(folder / "layer") as layer:
        merge([layer], folder / "root")
    return folder / "root"


def rendering(reader: CatalogReader, image: Path) -> tuple[float, float]:
    """Seconds on the clock and on the processor for one image."""
    start, busy = time.perf_counter(), time.process_time()
    erofs.render(reader, image)
    return time.perf_counter() - start, time.process_time() - busy
