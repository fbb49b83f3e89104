"""Whether this kernel can serve native roots, and how: found out by doing it once, in small.

A root of three files is rendered, mounted and read through two data-only layers, and one of its
files is changed. Version numbers say little: distributions carry features back, switch them off,
and run inside other people's kernels.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from catalog.erofs import render
from catalog.errors import CatalogError
from catalog.model import Content, Entry, Extent, ObjectRef, TreeKind
from catalog.reader import CatalogReader
from catalog.writer import CatalogWriter
from thinfs.errors import StoreError
from thinfs.roots.kernel import Backing, mount_image, mount_overlay, unmount_all, usable_path
from thinfs.roots.layers import Layers, lowerdir, read_only_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

SCRATCH_PREFIX: Final = "probe-"
"""What a probe uses and what a killed one leaves is named so."""

_HERE: Final = b"in the cache\n"
_LATER: Final = b"in the cache, but later\n"
_AFAR: Final = b"in the last layer\n"


@dataclass(frozen=True, slots=True)
class Ability:
    """One way to serve native roots.

    Attributes:
        backing: how metadata images are mounted.
        layers: how data-only layers are used.
    """

    backing: Backing
    layers: Layers

    def __str__(self) -> str:
        device = "" if self.backing is Backing.FILE else "metadata images through loop devices, "
        nested = "one overlay" if self.layers is Layers.DIRECT else "one overlay upon another"
        return f"{device}{nested}"


WAYS: Final = tuple(Ability(backing, layers) for layers in Layers for backing in Backing)
"""All ways, the best one first."""


def probe(cache: Path, mounts: Path, ways: Sequence[Ability] = WAYS) -> Ability:
    """The first of the ways that works.

    Args:
        cache: a directory where the cache is; used for a moment.
        mounts: a directory where roots are to be mounted; used for a moment.
        ways: in order of preference.

    Raises:
        StoreError: none works; the message says why, each reason once.
    """
    for path in (cache, mounts):
        if not usable_path(path):
            raise StoreError(f"{path}: a path with , : \\ or quotes cannot be an overlay's layer")
    reasons: dict[str, None] = {}
    for way in ways:
        try:
            with _scratch(cache) as data, _scratch(mounts) as places:
                _try(way, data, places)
        except StoreError as error:
            log.debug("native roots, %s: %s", way, error)
            reasons[str(error)] = None
        except (OSError, CatalogError) as error:
            reasons[f"trying it out failed: {error}"] = None
        else:
            return way
    raise StoreError("; ".join(reasons))


def _try(way: Ability, data: Path, places: Path) -> None:
    near, far = data / "near", data / "far"
    metadata, below, top = (_folder(places / name) for name in ("m", "b", "t"))
    upper, work = _folder(places / "u"), _folder(places / "w")
    _put(near, _HERE)
    _put(far, _AFAR)
    _render(data)
    mount_image(data / "image", metadata, way.backing)
    lower = lowerdir(metadata, near, far)
    mount_overlay(below, read_only_options(lower, way.layers), read_only=True)
    if way.layers is Layers.NESTED:
        lower = str(below)
    options = [f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}"]
    mount_overlay(top, options, read_only=False)
    _put(near, _LATER)
    for name, body in (("here", _HERE), ("afar", _AFAR), ("later", _LATER)):
        _expect(top / "d" / name, body, "reading through data-only layers")
    (top / "d/here").chmod(0o600)
    _expect(upper / "d/here", _HERE, "copying up a whole file")


def _expect(path: Path, body: bytes, what: str) -> None:
    try:
        found = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror}") from error
    if found != body:
        raise StoreError(f"{what}: gave other bytes")


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=parent))
    try:
        yield folder
    finally:
        for place in sorted(folder.iterdir(), reverse=True):
            unmount_all(place)
        shutil.rmtree(folder, ignore_errors=True)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _put(layer: Path, body: bytes) -> None:
    name = hashlib.sha256(body).hexdigest()
    fan = layer / name[:2]
    fan.mkdir(parents=True, exist_ok=True)
    (fan / name).write_bytes(body)


def _render(folder: Path) -> None:
    bodies = {b"d/afar": _AFAR, b"d/here": _HERE, b"d/later": _LATER}
    with CatalogWriter(folder / "catalog", TreeKind.ROOT) as writer:
        for path in (b"", b"d"):
            writer.add(Entry(path, mode=stat.S_IFDIR | 0o755))
        for path, body in bodies.items():
            digest = hashlib.sha256(body).digest()
            writer.add_object(ObjectRef(digest, len(body), len(body)))
            writer.add_content(Content(digest, len(body), (Extent(0, len(body), digest, 0),)))
            mode = stat.S_IFREG | 0o644
            writer.add(Entry(path, mode=mode, size=len(body), content=digest))
        writer.finish()
    with CatalogReader.open(folder / "catalog") as reader:
        render(reader, folder / "image")
    (folder / "image").chmod(0o400)
