"""Two directory trees, compared in everything a container can see of them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

_BLOCK = 1 << 20
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same.

    Attributes:
        path: relative to both roots; ``b"."`` is the root itself.
        what: a field of :class:`Entry`, ``name`` or ``bytes``.
        left: as it is in the first tree.
        right: as it is in the second tree.
    """

    path: bytes
    what: str
    left: Any
    right: Any

    def __str__(self) -> str:
        return f"{self.path!r}: {self.what}: {self.left!r} != {self.right!r}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What lstat, readlink and getxattr say of one name.

    Attributes:
        type: in words.
        mode: permission bits with setuid, setgid, sticky; of everything but symlinks.
        uid: owner.
        gid: group.
        mtime_ns: time of modification.
        size: of a regular file in bytes, else 0.
        target: of a symlink.
        device: major and minor of a device.
        links: names the file system says it has; 0 for directories, which count differently.
        names: all names in this tree that are the same inode, in order; empty for directories.
        xattrs: all of them.
    """

    type: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    target: bytes
    device: tuple[int, int]
    links: int
    names: tuple[bytes, ...]
    xattrs: Mapping[str, bytes]


def compare(
    left: Path, right: Path, *, unpredictable_mtimes: Collection[bytes] = ()
) -> list[Difference]:
    """All differences between two trees, by path.

    Args:
        left: root of the first tree.
        right: root of the second tree.
        unpredictable_mtimes: paths whose times are not compared: directories that no layer
            names get the time at which they were unpacked.
    """
    ours, theirs = scan(left), scan(right)
    found = []
    for path in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None:
            found.append(
                Difference(path, "name", one.type if one else None, other.type if other else None)
            )
            continue
        found += _entry_differences(path, one, other, path in unpredictable_mtimes)
        if one.type == other.type == "file" and one.size == other.size:
            found += _body_differences(path, left, right)
    return found


def scan(root: Path) -> dict[bytes, Entry]:
    """Every name below ``root`` and ``root`` itself as ``b"."``."""
    base = os.fsencode(root)
    statuses = {path: os.lstat(os.path.join(base, path)) for path in _walk(base)}  # noqa: PTH118 - bytes
    groups: dict[tuple[int, int], list[bytes]] = {}
    for path, status in sorted(statuses.items()):
        groups.setdefault((status.st_dev, status.st_ino), []).append(path)
    return {
        path: _entry(base, path, status, groups[status.st_dev, status.st_ino])
        for path, status in statuses.items()
    }


def _walk(base: bytes) -> Iterator[bytes]:
    yield b"."
    pending = [b""]
    while pending:
        parent = pending.pop()
        with os.scandir(base + b"/" + parent) as entries:
            for entry in entries:
                path = parent + b"/" + entry.name if parent else entry.name
                yield path
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)


def _entry(base: bytes, path: bytes, status: os.stat_result, names: list[bytes]) -> Entry:
    full = base + b"/" + path
    kind = stat.S_IFMT(status.st_mode)
    directory, link = kind == stat.S_IFDIR, kind == stat.S_IFLNK
    device = kind in {stat.S_IFCHR, stat.S_IFBLK}
    return Entry(
        type=_TYPES.get(kind, oct(kind)),
        mode=0 if link else stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        size=status.st_size if kind == stat.S_IFREG else 0,
        target=os.readlink(full) if link else b"",  # noqa: PTH115 - bytes
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if device else (0, 0),
        links=0 if directory else status.st_nlink,
        names=() if directory else tuple(names),
        xattrs={
            name: os.getxattr(full, name, follow_symlinks=False)
            for name in os.listxattr(full, follow_symlinks=False)
        },
    )


def _entry_differences(
    path: bytes, left: Entry, right: Entry, any_mtime: bool
) -> Iterator[Difference]:
    for field in fields(Entry):
        one, other = getattr(left, field.name), getattr(right, field.name)
        if one != other and not (any_mtime and field.name == "mtime_ns"):
            yield Difference(path, field.name, one, other)


def _body_differences(path: bytes, left: Path, right: Path) -> Iterator[Difference]:
    """The first place where two files of one size differ."""
    with (
        open(os.fsencode(left) + b"/" + path, "rb", buffering=0) as one,  # noqa: PTH123 - bytes
        open(os.fsencode(right) + b"/" + path, "rb", buffering=0) as other,  # noqa: PTH123 - bytes
    ):
        offset = 0
        while True:
            ours, theirs = _read(one.fileno()), _read(other.fileno())
            if ours != theirs:
                yield Difference(path, "bytes", *_around_first_difference(ours, theirs, offset))
                return
            if not ours:
                return
            offset += len(ours)


def _read(descriptor: int) -> bytes:
    """A whole block unless the file ends: a short read is no difference."""
    parts, missing = [], _BLOCK
    while missing and (part := os.read(descriptor, missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _around_first_difference(left: bytes, right: bytes, offset: int) -> tuple[str, str]:
    pairs = enumerate(zip(left, right, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))
    return f"{left[at : at + 8]!r} at {offset + at}", f"{right[at : at + 8]!r} at {offset + at}"
