"""How fast a warm root is, beside containerd's own overlayfs snapshotter: ``warm.*``.

Both roots are of the same image, mounted as a container has them. The thin image has been read
whole in an earlier container, so that the node has all of it. Measurements of the two alternate.
*Dropped* means with the kernel's caches dropped before each run: then the disk counts.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import sweep
from tests.support.containerd import Containerd
from tests.support.daemons import Node
from tests.support.science_image import jupyter_image, python_image
from tests.support.unpack import import_image, mounted
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.image_cache import Layout

RUNS = 5
STARTS = 15
"""More than other measurements: a container's start takes a tenth more or less from run to run."""
WARMING_PASSES = 5
SMALL_FILES = 3_000
SMALL_BYTES = 16_384
READ_BYTES = 1 << 20
IMPORT = ("python3", "-c", "import numpy, pandas")
TRUE = ("/bin/true",)
IMAGES = {"python": python_image, "jupyter": jupyter_image}
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
Row = dict[str, object]


def run(prefixes: Sequence[str] = ()) -> list[Row]:
    """Measure the images that are asked for; ratios are of medians."""
    asked = [
        (label, image)
        for label, image in IMAGES.items()
        if not prefixes or any(_concerns(prefix, label) for prefix in prefixes)
    ]
    folder = sweep.make_folder("warm-bench")
    try:
        with _world(folder) as (node, containerd):
            return [
                row
                for label, image in asked
                for row in _compare(label, image(), node, containerd, folder)
            ]
    finally:
        sweep.sweep_folder(folder)


def _concerns(prefix: str, label: str) -> bool:
    """Whether figures of an image begin with a prefix."""
    name = f"warm.{label}."
    return prefix.startswith(name) or name.startswith(prefix)


@contextlib.contextmanager
def _world(folder: Path) -> Iterator[tuple[Node, Containerd]]:
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(Node(folder / "n"))
        snapshotters = {"thin": node.snapshotter_socket}
        yield node, stack.enter_context(Containerd(folder / "c", snapshotters=snapshotters))


def _compare(
    label: str, image: Layout, node: Node, containerd: Containerd, folder: Path
) -> Iterator[Row]:
    full = import_image(containerd, image, "overlayfs")
    thin = f"docker.io/library/{label}:thin"
    node.thinfs(
        *("convert", image.source, "--name", thin, "--containerd"),
        *("--containerd-address", containerd.address, "--namespace", containerd.namespace),
    )
    with mounted(containerd, thin, folder / f"{label}-first", "thin", active=True) as first:
        _warm(first, node)
    with (
        mounted(containerd, full, folder / f"{label}-full", "overlayfs", active=True) as reference,
        mounted(containerd, thin, folder / f"{label}-thin", "thin", active=True) as ours,
    ):
        files = _Files(reference)
        for name, measure, drop, goal in files.measurements():
            yield _row(f"warm.{label}.{name}", measure, ours, reference, drop=drop, goal=goal)
        yield _start(f"warm.{label}.start", IMPORT, containerd, thin, full, goal=1.05)
        yield _start(f"warm.{label}.true", TRUE, containerd, thin, full)


class _Files:
    """What is read: chosen from the reference, the same in both roots."""

    def __init__(self, root: Path) -> None:
        sizes = {
            Path(parent, name).relative_to(root): (Path(parent) / name).lstat()
            for parent, _, names in os.walk(root)
            for name in names
        }
        regular = {path: s.st_size for path, s in sizes.items() if stat.S_ISREG(s.st_mode)}
        small = sorted(path for path, size in regular.items() if 0 < size <= SMALL_BYTES)
        self._small = random.Random(1).sample(small, min(SMALL_FILES, len(small)))
        self._large = max(regular, key=lambda path: regular[path])

    def measurements(self) -> list[tuple[str, Callable[[Path], float], bool, float]]:
        """Name, what to do with a root, whether caches are dropped first, goal of the ratio."""
        return [
            ("find", _find, False, 1.0),
            ("find.dropped", _find, True, 0.8),
            ("small", self._read_small, False, 1.10),
            ("small.dropped", self._read_small, True, 1.25),
            ("large", self._read_large, False, 1.05),
            ("large.dropped", self._read_large, True, 1.05),
        ]

    def _read_small(self, root: Path) -> float:
        paths = [str(root / path) for path in self._small]
        started = time.perf_counter()
        for path in paths:
            handle = os.open(path, os.O_RDONLY)
            os.read(handle, SMALL_BYTES)
            os.close(handle)
        return time.perf_counter() - started

    def _read_large(self, root: Path) -> float:
        buffer = bytearray(READ_BYTES)
        started = time.perf_counter()
        with (root / self._large).open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
        return time.perf_counter() - started


def _find(root: Path) -> float:
    started = time.perf_counter()
    command = ["find", str(root), "-xdev", "-printf", "%s %T@ %m\n"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _start(
    row: str,
    command: Sequence[str],
    containerd: Containerd,
    thin: str,
    full: str,
    *,
    goal: float | None = None,
) -> Row:
    """Start containers that run a command and are removed, until the client has ended."""

    def start(image: str, snapshotter: str) -> float:
        started = time.perf_counter()
        name = f"start-{snapshotter}"
        containerd.ctr(
            *("run", "--rm", "--net-host", f"--snapshotter={snapshotter}", image, name, *command)
        )
        return time.perf_counter() - started

    start(thin, "thin")
    start(full, "overlayfs")
    ours, reference = [], []
    for _ in range(STARTS):
        ours.append(start(thin, "thin"))
        reference.append(start(full, "overlayfs"))
    return _ratio(row, ours, reference, goal=goal)


def _row(
    name: str,
    measure: Callable[[Path], float],
    ours: Path,
    reference: Path,
    *,
    drop: bool,
    goal: float,
) -> Row:
    taken: dict[Path, list[float]] = {ours: [], reference: []}
    for root in (ours, reference):
        measure(root)  # the first one warms the kernel's caches
    for _ in range(RUNS):
        for root, seconds in taken.items():
            if drop:
                os.sync()
                DROP_CACHES.write_text("3")
            seconds.append(measure(root))
    return _ratio(name, taken[ours], taken[reference], goal=goal)


def _ratio(name: str, ours: list[float], reference: list[float], *, goal: float | None) -> Row:
    value, compared = statistics.median(ours), statistics.median(reference)
    row: Row = {
        "name": name,
        "value": round(value, 4),
        "unit": "s",
        "reference": round(compared, 4),
        "ratio": round(value / compared, 3),
    }
    return row if goal is None else row | {"goal": goal, "met": value / compared <= goal}


def _read_all(root: Path) -> None:
    command = ["find", str(root), "-xdev", "-type", "f", "-exec", "cat", "{}", "+"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _warm(root: Path, node: Node) -> None:
    """Read the whole root until that fetches nothing any more, and its metadata is a file here."""
    for _ in range(WARMING_PASSES):
        before = node.status()["fetch"]["requests"]
        DROP_CACHES.write_text("3")
        _read_all(root)
        if node.status()["fetch"]["requests"] == before:
            break
    else:
        raise RuntimeError(f"{root} is not warm after {WARMING_PASSES} passes")
    images = node.folder / "cache/metadata"
    wait_until(lambda: any(images.iterdir()), "the whole metadata image")
