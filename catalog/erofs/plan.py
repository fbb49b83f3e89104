"""Where everything goes: sizes of inodes and directories first, then their places.

An image is the superblock, all inodes, then the blocks of large directories. Inodes lie in the
order of (parent directory, name), parents in the order of a depth-first walk: what a directory
lists lies together, so that a kernel which fetches an image block by block reads few of them.
"""

from __future__ import annotations

import itertools
import stat
from array import array
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from catalog import rows as catalog_rows
from catalog import rules
from catalog.erofs import attributes, directories, disk, rows
from catalog.erofs.errors import CannotRender
from catalog.errors import DamagedCatalog
from catalog.model import ROOT_INO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.erofs.directories import Dirent
    from catalog.erofs.rows import EncodedXattrs, Row
    from catalog.reader import CatalogReader

MAX_FILE_BYTES: Final = 1 << 48
"""Largest file: 32 chunks, and more than any disk of a node holds."""

_CHUNK_BYTES: Final = 1 << disk.CHUNK_BITS
_LAST_HEAD: Final = disk.BLOCK - disk.INODE.size


@dataclass(frozen=True, slots=True)
class Plan:
    """Places of all inodes. Arrays are indexed by the catalog's inode number.

    Attributes:
        nids: number of each inode in the image; 0 for those without a name.
        types: ``file_type`` of each.
        links: names of each, as they are found; 2 + subdirectories of a directory.
        tails: bytes of a directory's or symlink's data that lie behind its inode.
        blocks: the other blocks of its data.
        inodes: how many there are.
        inodes_end: where the blocks begin.
        size: of the image.
    """

    nids: array[int]
    types: bytearray
    links: array[int]
    tails: array[int]
    blocks: array[int]
    inodes: int
    inodes_end: int
    size: int


def chunks(size: int) -> int:
    """How many chunks a file's body has."""
    return -(-size >> disk.CHUNK_BITS)


def plan(reader: CatalogReader, xattrs: EncodedXattrs) -> Plan:
    """Read the whole tree once and give everything its place.

    Memory: 31 bytes an inode.

    Raises:
        CannotRender: the tree holds what an image cannot.
        DamagedCatalog: it is no tree.
    """
    return _Planning(reader, xattrs).run()


class _Planning:
    def __init__(self, reader: CatalogReader, xattrs: EncodedXattrs) -> None:
        count = rows.last_ino(reader) + 1
        self._reader = reader
        self._xattrs = xattrs
        self._order = array("Q")
        self._heads = array("I", bytes(4 * count))
        self._tails = array("H", bytes(2 * count))
        self._blocks = array("I", bytes(4 * count))
        self._links = array("I", bytes(4 * count))
        self._types = bytearray(count)

    def run(self) -> Plan:
        found = rows.scan(self._reader, bodies=False)
        self._measure_root(next(found, None))
        last = 0
        for parent, group in itertools.groupby(found, itemgetter(rows.PARENT)):
            self._check_parent(parent, last)
            last = parent
            self._measure_directory(parent, self._measured(parent, group))
        return self._placed()

    def _measure_root(self, row: Row | None) -> None:
        if row is None:
            raise DamagedCatalog("there is no root directory")
        catalog_rows.check_node(row[: rows.PARENT])
        self._measure(row)
        if self._types[ROOT_INO] != disk.DIRECTORY_TYPE:
            raise DamagedCatalog("the root is no directory")
        self._links[ROOT_INO] += 1  # the root is its own parent

    def _check_parent(self, parent: object, last: int) -> None:
        if (
            type(parent) is not int
            or not last < parent < len(self._types)
            or self._types[parent] != disk.DIRECTORY_TYPE
        ):
            raise DamagedCatalog(f"names in {parent!r}, which is no directory met before")

    def _measured(self, parent: int, group: Iterator[Row]) -> Iterator[Dirent]:
        """The names of a directory; what they stand for is measured at its first name."""
        former = b""
        types, links = self._types, self._links
        for row in group:
            name = catalog_rows.name(row[rows.NAME])
            if name <= former:
                raise DamagedCatalog(f"name {rules.shown(name)} is out of order")
            former = name
            catalog_rows.check_node(row[: rows.PARENT])
            ino = row[rows.INO]
            if not types[ino]:
                self._measure(row)
                if types[ino] == disk.DIRECTORY_TYPE:
                    links[parent] += 1
            elif types[ino] == disk.DIRECTORY_TYPE:
                raise DamagedCatalog(f"directory {rules.shown(name)} has several names")
            links[ino] += 1
            yield name, 0, 0

    def _measure_directory(self, ino: int, entries: Iterator[Dirent]) -> None:
        filling = directories.Filling()
        for name, _, _ in directories.with_dots(entries, 0, 0):
            filling.add(name)
        self._set_data(ino, filling.full, filling.used)

    def _measure(self, row: Row) -> None:
        """Take an inode into the order, with the size of all that is not its data."""
        ino, mode = row[rows.INO], row[rows.MODE]
        _check_mark(row)
        kind = self._types[ino] = disk.FILE_TYPES[mode & 0o170000]
        self._order.append(ino)
        try:
            self._heads[ino] = self._head(row)
        except CannotRender as error:
            raise CannotRender(f"{rules.shown(row[rows.NAME])}: {error}") from error
        if kind == disk.DIRECTORY_TYPE:
            if ino <= row[rows.PARENT]:
                raise DamagedCatalog(f"directory {ino} is below directory {row[rows.PARENT]}")
            self._links[ino] = 1  # its own dot
            self._measure_directory(ino, iter(()))
        elif kind == disk.SYMLINK_TYPE:
            self._set_data(ino, 0, row[rows.SIZE])

    def _head(self, row: Row) -> int:
        xattr_id = row[rows.XATTR_ID]
        entries = len(self._xattrs.entries(xattr_id, row[rows.MODE])) if xattr_id else 0
        if not row[rows.CONTENT_ID]:
            return disk.INODE.size + attributes.body_size(entries)
        size = row[rows.SIZE]
        if size > MAX_FILE_BYTES:
            raise CannotRender(f"a file of {size} bytes")
        body = attributes.body_size(attributes.BODY_ENTRIES + entries)
        return disk.INODE.size + body + len(disk.HOLE) * chunks(size)

    def _set_data(self, ino: int, full: int, rest: int) -> None:
        """Note where data goes: what is left after whole blocks is inline where it can be."""
        inline = self._heads[ino] + rest <= disk.BLOCK
        self._blocks[ino] = full + (not inline)
        self._tails[ino] = rest if inline else 0

    def _placed(self) -> Plan:
        nids = array("Q", bytes(8 * len(self._types)))
        at = disk.FIRST_INODE
        for ino in self._order:
            needed = self._heads[ino] + self._tails[ino]
            offset = at % disk.BLOCK
            # Inline data must not cross the end of a block, and for a symlink the kernel asks
            # the same of all that is before it; an inode alone is read faster from one block.
            if offset > _LAST_HEAD or (self._tails[ino] and offset + needed > disk.BLOCK):
                at = disk.round_up(at, disk.BLOCK)
            nids[ino] = at >> disk.SLOT_BITS
            at = disk.round_up(at + needed, disk.SLOT)
        end = disk.round_up(at, disk.BLOCK)
        size = end + disk.BLOCK * sum(self._blocks)
        if size > disk.MAX_IMAGE_BYTES:
            raise CannotRender(f"its image would have {size} bytes")
        count = len(self._order)
        return Plan(nids, self._types, self._links, self._tails, self._blocks, count, end, size)


def _check_mark(row: Row) -> None:
    """Refuse what only layers have."""
    is_device = row[rows.MAJOR] or row[rows.MINOR]
    if row[rows.FLAGS] or (row[rows.MODE] & 0o170000 == stat.S_IFCHR and not is_device):
        raise DamagedCatalog(f"{rules.shown(row[rows.NAME])}: a layer's mark in a root")
