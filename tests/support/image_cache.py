"""Images that take long to build are built once and kept as OCI layouts below ``.cache/images``.

The name of a cached image carries a digest of the source that builds it, so that a change of
the recipe builds it anew. Two test runs may ask at once: one builds, the other waits.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CACHE = Path(os.environ.get("THINFS_CACHE") or Path(__file__).parents[2] / ".cache") / "images"
DIGEST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Layout:
    """An image in an OCI layout.

    Attributes:
        directory: of the layout.
        tag: of the image in it.
    """

    directory: Path
    tag: str

    @property
    def source(self) -> str:
        """As skopeo and ``thinfs convert`` name it."""
        return f"oci:{self.directory}:{self.tag}"


def cached(name: str, sources: tuple[Path, ...], build: Callable[[Path, Path], None]) -> Layout:
    """The image ``name``, tagged ``name`` too, from the cache or built now.

    Args:
        name: of the image.
        sources: files whose change makes a new image.
        build: called with the layout's directory (missing) and an empty work folder.
    """
    whole = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
    digest = whole[:DIGEST_DIGITS]
    final = CACHE / f"{name}-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            _build(name, final, build)
    return Layout(final, name)


def _build(name: str, final: Path, build: Callable[[Path, Path], None]) -> None:
    for old in CACHE.glob(f"{name}-{'[0-9a-f]' * DIGEST_DIGITS}"):  # not those of name-alike
        shutil.rmtree(old)
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=CACHE))
    try:
        (work / "work").mkdir()
        build(work / "layout", work / "work")
        (work / "layout").rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
