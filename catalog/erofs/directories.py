"""Names of directories: blocks of fixed-size entries, with the names behind them.

A directory is a run of blocks. In each, entries come first and their names behind, in the same
order; names ascend as bytes over the whole directory, ``.`` and ``..`` among them. The last
block ends with its last name; in the others zeros fill the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from catalog import rules
from catalog.erofs import disk
from catalog.erofs.errors import DamagedImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Dirent = tuple[bytes, int, int]
"""Name, nid and file type of one entry."""

_DOTS: Final = (b".", b"..")
_ENTRY_BYTES: Final = disk.DIRENT.size


class Filling:
    """How many blocks names fill, one name after the other.

    Attributes:
        full: blocks that no further name goes into.
        used: bytes in the block after those.
    """

    __slots__ = ("full", "used")

    def __init__(self) -> None:
        self.full = 0
        self.used = 0

    def add(self, name: bytes) -> bool:
        """Take the next name; whether it is the first one of another block."""
        needed = _ENTRY_BYTES + len(name)
        if self.used + needed > disk.BLOCK:
            self.full += 1
            self.used = needed
            return True
        self.used += needed
        return False


def with_dots(entries: Iterable[Dirent], own: int, parent: int) -> Iterator[Dirent]:
    """Entries and the two every directory has, ascending.

    Args:
        entries: ascending by name.
        own: nid of the directory.
        parent: nid of its parent; the root's own.
    """
    dots = [(b"..", parent, disk.DIRECTORY_TYPE), (b".", own, disk.DIRECTORY_TYPE)]
    for entry in entries:
        while dots and dots[-1][0] < entry[0]:
            yield dots.pop()
        yield entry
    yield from reversed(dots)


def pack(entries: Iterable[Dirent]) -> Iterator[bytes]:
    """The pieces of a directory: whole blocks, then what is left, which may be a whole block.

    Args:
        entries: all, ascending.
    """
    filling = Filling()
    block: list[Dirent] = []
    for entry in entries:
        if filling.add(entry[0]):
            yield _packed(block).ljust(disk.BLOCK, b"\0")
            block = []
        block.append(entry)
    yield _packed(block)


def _packed(entries: list[Dirent]) -> bytes:
    at = _ENTRY_BYTES * len(entries)
    heads = []
    for name, nid, kind in entries:
        heads.append(disk.DIRENT.pack(nid, at, kind, 0))
        at += len(name)
    heads.extend([entry[0] for entry in entries])
    return b"".join(heads)


def unpack(block: bytes) -> list[Dirent]:
    """The entries of one piece of a directory, ``.`` and ``..`` included.

    Raises:
        DamagedImage: it is not as we write it.
    """
    heads = _heads(block)
    ends = [at for _, at, _, _ in heads[1:]] + [len(block.rstrip(b"\0"))]
    entries = []
    for (nid, start, kind, reserved), end in zip(heads, ends, strict=True):
        name = block[start:end]
        if not (rules.is_name(name) or name in _DOTS) or reserved:
            raise DamagedImage(f"a directory has the name {rules.shown(name)}")
        entries.append((name, nid, kind))
    return entries


def _heads(block: bytes) -> list[tuple[int, int, int, int]]:
    if len(block) < _ENTRY_BYTES:
        raise DamagedImage("a directory without entries")
    names = disk.DIRENT.unpack_from(block)[1]
    if names % _ENTRY_BYTES or not _ENTRY_BYTES <= names <= len(block):
        raise DamagedImage("a directory whose names begin nowhere")
    return list(disk.DIRENT.iter_unpack(block[:names]))
