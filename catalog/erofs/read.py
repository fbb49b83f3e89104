"""Reading an image back in plain Python, to check it: whatever the bytes are.

Stricter than the kernel: only what :mod:`catalog.erofs.write` writes is accepted. In a sound
image every byte is needed at most once, so no more bytes than the file has are ever read, and
time and memory are bounded by its size.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from catalog import rules
from catalog.erofs import directories, disk
from catalog.erofs.errors import DamagedImage
from catalog.erofs.inodes import ImageNode, Inodes
from catalog.errors import CatalogError
from catalog.model import MAX_PATH_DEPTH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.erofs.directories import Dirent


def check_superblock(path: Path) -> None:
    """See, by one small read, whether a file is an image as we write it.

    For a file whose digest is verified, before the kernel is asked to mount it: a publisher may
    have named bytes that are no image, or one with features that are none of ours.

    Raises:
        DamagedImage: it is none.
        CatalogError: the file cannot be read.
    """
    with opened(path) as (handle, size):
        superblock(handle, size)


def walk(path: Path) -> Iterator[tuple[bytes, ImageNode]]:
    """Every (path, node), the root (``b""``) first, depth first in name order.

    Memory: one number for each directory, one node for each inode with several names.

    Raises:
        DamagedImage: the image is not as we write it.
        CatalogError: the file cannot be read.
    """
    with opened(path) as (handle, size):
        root, stated = superblock(handle, size)
        yield from _Walk(Inodes(handle, size), stated).run(root)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[int, int]]:
    """Descriptor and size; what the system says against reading becomes CatalogError."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > disk.MAX_IMAGE_BYTES:
                raise DamagedImage(f"{path} has {size} bytes, too many for a metadata image")
            yield file.fileno(), size
    except OSError as error:
        raise CatalogError(f"metadata image {path}: {error.strerror}") from error


def superblock(handle: int, size: int) -> tuple[int, int]:
    """Check it; gives the root's nid and the number of inodes it states."""
    raw = os.pread(handle, disk.SUPER.size, disk.SUPER_OFFSET)
    if len(raw) < disk.SUPER.size or not raw.startswith(disk.SUPER_MAGIC.to_bytes(4, "little")):
        raise DamagedImage("not an EROFS image")
    root, inodes = disk.SUPER.unpack(raw)[5:7]
    at = disk.UUID_OFFSET - disk.SUPER_OFFSET
    bare = raw[:at] + bytes(disk.UUID_BYTES) + raw[at + disk.UUID_BYTES :]
    if size % disk.BLOCK or bare != disk.superblock(root, inodes, size):
        raise DamagedImage("an EROFS image that is cut off, or no metadata image of ours")
    return root, inodes


class _Walk:
    def __init__(self, inodes: Inodes, stated: int) -> None:
        self._inodes = inodes
        self._stated = stated
        self._found = 0
        self._directories: set[int] = set()
        self._linked: dict[int, ImageNode] = {}
        self._names_left: dict[int, int] = {}

    def run(self, root_nid: int) -> Iterator[tuple[bytes, ImageNode]]:
        root, pieces = self._node(root_nid, disk.DIRECTORY_TYPE)
        yield b"", root
        stack = [(b"", root.nid, self._entries(root.nid, root.nid, pieces))]
        while stack:
            prefix, parent, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                continue
            path = prefix + entry[0]
            node, pieces = self._node(*entry[1:])
            yield path, node
            if stat.S_ISDIR(node.mode):
                if len(stack) >= MAX_PATH_DEPTH:
                    raise DamagedImage(f"{rules.shown(path)} is too deep")
                stack.append((path + b"/", node.nid, self._entries(node.nid, parent, pieces)))
        self._check_counts()

    def _node(self, nid: int, kind: int) -> tuple[ImageNode, Iterator[bytes]]:
        """What an entry stands for; an inode with several names is read once."""
        known = self._linked.get(nid)
        if known is not None:
            self._names_left[nid] -= 1
            return _checked(known, kind), iter(())
        node, pieces = self._inodes.read(nid)
        self._found += 1
        if stat.S_ISDIR(node.mode):
            if nid in self._directories:
                raise DamagedImage(f"directory {nid} has several names")
            self._directories.add(nid)
        elif node.nlink > 1:
            self._linked[nid] = node
            self._names_left[nid] = node.nlink - 1
        return _checked(node, kind), pieces

    def _entries(self, own: int, parent: int, pieces: Iterator[bytes]) -> Iterator[Dirent]:
        """The names of a directory, without its dots, which are checked."""
        dots = {b".": own, b"..": parent}
        former = b""
        for piece in pieces:
            for entry in directories.unpack(piece):
                name, nid, kind = entry
                if name <= former:
                    raise DamagedImage(f"name {rules.shown(name)} is out of order")
                former = name
                if name not in dots:
                    yield entry
                elif (nid, kind) != (dots.pop(name), disk.DIRECTORY_TYPE):
                    raise DamagedImage(f"{rules.shown(name)} of directory {own} leads elsewhere")
        if dots:
            raise DamagedImage(f"directory {own} lacks a dot")

    def _check_counts(self) -> None:
        if any(self._names_left.values()):
            raise DamagedImage("an inode has not as many names as it says")
        if self._found != self._stated:
            raise DamagedImage(f"{self._found} inodes are found, not {self._stated}")


def _checked(node: ImageNode, kind: int) -> ImageNode:
    if disk.FILE_TYPES[stat.S_IFMT(node.mode)] != kind:
        raise DamagedImage(f"inode {node.nid} is of another type than its name says")
    return node
