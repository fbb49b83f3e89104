"""Where in an image the bytes are, and which of them a start has used. No input or output."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from catalog.model import Node
    from catalog.reader import CatalogReader
    from thinfs.store.boot import BootRecord
    from thinfs.store.profiles import Profile

STANDS_FOR: Final = 0.75
"""A directory of which one subdirectory has this part is left out in favour of that one."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory with everything below it.

    Attributes:
        path: in the image, without a leading slash; empty for the root.
        files: regular files; hard links count once, where a walk meets them first.
        bytes: sum of their sizes.
        used_bytes: what a start has read of them.
    """

    path: bytes
    files: int
    bytes: int
    used_bytes: int


@dataclass(slots=True)
class _Sums:
    files: int = 0
    bytes: int = 0
    used_bytes: int = 0


def used_by_profile(profile: Profile, sizes: Mapping[bytes, int]) -> dict[bytes, int]:
    """Bytes that a profile says were read, by content.

    Args:
        profile: of this image, or of a relative of it.
        sizes: of the image's contents by digest; others are passed over.
    """
    used: dict[bytes, int] = {}
    for touched in profile.touched:
        digest = bytes.fromhex(touched.content)
        if digest in sizes:
            read = sum(length for _, length in touched.ranges) or sizes[digest]
            used[digest] = min(sizes[digest], used.get(digest, 0) + read)
    return used


def used_by_boot(boot: BootRecord) -> dict[bytes, int]:
    """Bytes that a boot record fetches for a start, by content."""
    ordered = set(boot.order)
    used = {
        bytes.fromhex(content.digest): sum(
            extent.length for extent in content.extents if extent.object in ordered
        )
        for content in boot.contents
    }
    return {digest: count for digest, count in used.items() if count}


def directories(root: CatalogReader, used: Mapping[bytes, int]) -> dict[bytes, Directory]:
    """Every directory of a tree by its path.

    Args:
        root: the tree.
        used: bytes that were read, by content.
    """
    by_id = {root.content_id(digest): count for digest, count in used.items()}
    sums: dict[bytes, _Sums] = {}
    last = 0
    for path, node in root.walk():
        if stat.S_ISDIR(node.mode):
            sums[path] = _Sums()
        elif stat.S_ISREG(node.mode) and node.ino > last:
            _count(sums[_parent(path)], node, by_id.get(node.content_id, 0))
        last = max(last, node.ino)
    for path in reversed(sums):  # children come after their parents
        if path:
            _add(sums[_parent(path)], sums[path])
    return {
        path: Directory(path, each.files, each.bytes, each.used_bytes)
        for path, each in sums.items()
    }


def largest(found: Mapping[bytes, Directory], count: int) -> list[Directory]:
    """The directories that say best where the bytes are, largest first."""
    heaviest: dict[bytes, int] = {}
    for path, each in found.items():
        if path:
            heaviest[_parent(path)] = max(heaviest.get(_parent(path), 0), each.bytes)
    telling = (
        each
        for path, each in found.items()
        if path and each.bytes and heaviest.get(path, 0) < STANDS_FOR * each.bytes
    )
    return _first(telling, count)


def never_used(found: Mapping[bytes, Directory], count: int) -> list[Directory]:
    """The largest directories of which nothing was read, though something beside them was."""
    tops = (
        each
        for path, each in found.items()
        if path and each.bytes and not each.used_bytes and found[_parent(path)].used_bytes
    )
    return _first(tops, count)


def _first(found: Iterable[Directory], count: int) -> list[Directory]:
    return sorted(found, key=lambda each: (-each.bytes, each.path))[:count]


def _count(sums: _Sums, node: Node, used: int) -> None:
    sums.files += 1
    sums.bytes += node.size
    sums.used_bytes += used


def _add(parent: _Sums, child: _Sums) -> None:
    parent.files += child.files
    parent.bytes += child.bytes
    parent.used_bytes += child.used_bytes


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
