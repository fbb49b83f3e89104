"""Metadata images as the kernel sees them, and what it should see of a catalog's tree."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import stat
import subprocess
from typing import TYPE_CHECKING

from tests.support import treediff
from tests.support.generated_trees import ACL, CAPABILITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from catalog.model import Node, Xattrs
    from catalog.reader import CatalogReader

_MS_RDONLY = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
OVERLAY = ("trusted.overlay.metacopy", "trusted.overlay.redirect")


@contextlib.contextmanager
def mounted(image: Path, at: Path, *, loop: bool = False) -> Iterator[Path]:
    """The image at ``at``: the file itself, or through a loop device."""
    at.mkdir(exist_ok=True)
    if loop:
        argv = ["mount", "-t", "erofs", "-o", "loop,ro", str(image), str(at)]
        subprocess.run(argv, check=True, capture_output=True)
    else:  # mount(8) would take a loop device
        source, place = os.fsencode(image), os.fsencode(at)
        if _LIBC.mount(source, place, b"erofs", _MS_RDONLY, None) != 0:
            raise OSError(ctypes.get_errno(), "the kernel did not mount it", str(image))
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


@contextlib.contextmanager
def native_root(image: Path, data: Path, folder: Path, *, writable: bool = True) -> Iterator[Path]:
    """An overlay with the image as its lower layer and bodies from ``data``."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    with mounted(image, folder / "meta") as meta:
        options = f"lowerdir={meta}::{data}"
        if writable:
            options += f",upperdir={folder / 'upper'},workdir={folder / 'work'}"
        argv = ["mount", "-t", "overlay", "overlay", "-o", options, str(folder / "root")]
        subprocess.run(argv, check=True, capture_output=True)
        try:
            yield folder / "root"
        finally:
            subprocess.run(["umount", folder / "root"], check=True)


def store(data: Path, bodies: Iterable[bytes]) -> None:
    """Put bodies where redirects point."""
    for body in bodies:
        name = hashlib.sha256(body).hexdigest()
        (data / name[:2]).mkdir(parents=True, exist_ok=True)
        (data / name[:2] / name).write_bytes(body)


def kept(xattrs: Xattrs, mode: int) -> Xattrs:
    """Those that a file system would take; the one sound ACL and capability are the tests' own."""
    kind = stat.S_IFMT(mode)
    ordinary = kind in (stat.S_IFREG, stat.S_IFDIR)
    found = []
    for name, value in xattrs:
        space, _, rest = name.partition(b".")
        taken = {
            b"user": ordinary and rest != b"",
            b"trusted": rest != b"",
            b"security": rest != b"" and (rest != b"capability" or value == CAPABILITY),
            b"system": value == ACL
            and (
                (rest == b"posix_acl_access" and kind != stat.S_IFLNK)
                or (rest == b"posix_acl_default" and kind == stat.S_IFDIR)
            ),
        }
        if taken.get(space, False) and not rest.startswith(b"overlay."):
            found.append((name, value))
    return tuple(found)


def owner(number: int) -> int:
    """An owner as stat shows it: 2**32 - 1 is none."""
    return 65534 if number == 0xFFFFFFFF else number


def expected(reader: CatalogReader, *, redirects: bool) -> dict[bytes, treediff.Entry]:
    """What :func:`tests.support.treediff.scan` should find.

    Args:
        reader: of the tree.
        redirects: with the attributes that overlayfs hides.
    """
    found = list(reader.walk())
    names: dict[int, list[bytes]] = {}
    for path, node in found:
        names.setdefault(node.ino, []).append(path or b".")
    return {
        path or b".": _entry(reader, node, tuple(sorted(names[node.ino])), redirects)
        for path, node in found
    }


def overlay_xattrs(reader: CatalogReader, node: Node) -> Xattrs:
    """The two attributes of a file with a body."""
    if not node.content_id:
        return ()
    digest = reader.content(node.content_id).digest.hex()
    return (
        (OVERLAY[0].encode(), b""),
        (OVERLAY[1].encode(), f"/{digest[:2]}/{digest}".encode()),
    )


def _entry(
    reader: CatalogReader, node: Node, names: tuple[bytes, ...], redirects: bool
) -> treediff.Entry:
    kind = stat.S_IFMT(node.mode)
    directory, link = kind == stat.S_IFDIR, kind == stat.S_IFLNK
    xattrs = kept(reader.xattrs(node.ino), node.mode)
    xattrs += overlay_xattrs(reader, node) if redirects else ()
    return treediff.Entry(
        type=treediff._TYPES[kind],
        mode=0 if link else stat.S_IMODE(node.mode),
        uid=owner(node.uid),
        gid=owner(node.gid),
        mtime_ns=node.mtime_ns,
        size=node.size if kind == stat.S_IFREG else 0,
        target=reader.readlink(node.ino) if link else b"",
        device=node.rdev,
        links=0 if directory else node.nlink,
        names=() if directory else names,
        xattrs={os.fsdecode(name): value for name, value in xattrs},
    )
