"""Rendering: the tree is read a second time, and everything written to its place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from catalog import rows as catalog_rows
from catalog import rules
from catalog.erofs import attributes, directories, disk, rows
from catalog.erofs.errors import CannotRender
from catalog.erofs.plan import chunks, plan
from catalog.errors import CatalogError, DamagedCatalog
from catalog.model import ROOT_INO, TreeKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from catalog.erofs.directories import Dirent
    from catalog.erofs.plan import Plan
    from catalog.erofs.rows import Row
    from catalog.reader import CatalogReader

NOBODY: Final = 65534
"""Stands for the owner 2**32 - 1, which is no id on Linux: what stat(2) shows in its place."""

_NO_ID: Final = (1 << 32) - 1
_BUFFER_BYTES: Final = 1 << 20
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class MetadataImage:
    """A rendered image.

    Attributes:
        digest: ``sha256:`` and the SHA-256 of the file in hex.
        size: bytes.
    """

    digest: str
    size: int


def render(reader: CatalogReader, path: Path) -> MetadataImage:
    """Write the image of a root tree; ``path`` appears when it is complete, or not at all.

    The same tree gives the same bytes, whatever the machine or the time.

    Args:
        reader: of a root; it need not have been checked.
        path: the file to make or replace; its directory exists.

    Raises:
        CannotRender: the tree holds what an image cannot, or is a layer's.
        DamagedCatalog: the catalog breaks an invariant.
        CatalogError: the file cannot be written.
    """
    if reader.kind is not TreeKind.ROOT:
        raise CannotRender("only the tree of a root has a metadata image, not that of a layer")
    try:
        with _replacing(path) as file:
            _Rendering(reader, file.fileno()).run()
            return _identified(file)
    except OSError as error:
        raise CatalogError(f"writing metadata image {path}: {error.strerror}") from error


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[FileIO]:
    """A file beside ``path`` that takes its place, on the disk, when the block ends well."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w+b", buffering=0) as file:  # noqa: PTH123 - a descriptor
            yield file
            os.fchmod(handle, 0o644)
            os.fsync(handle)
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _identified(file: FileIO) -> MetadataImage:
    """Give the image a UUID of its own, made of its bytes, and say what it is then.

    Overlayfs tells file systems apart by it.
    """
    uuid = bytearray(_hashed(file).digest()[: disk.UUID_BYTES])
    uuid[6] = uuid[6] & 0x0F | 0x80  # RFC 9562: version 8
    uuid[8] = uuid[8] & 0x3F | 0x80
    file.seek(disk.UUID_OFFSET)
    file.write(uuid)
    digest = _hashed(file).hexdigest()
    return MetadataImage(f"sha256:{digest}", file.seek(0, os.SEEK_END))


def _hashed(file: FileIO) -> hashlib._Hash:
    file.seek(0)
    return hashlib.file_digest(file, "sha256")


class _Stream:
    """Bytes for ascending places of a file, gathered into large writes; zeros between them.

    Attributes:
        at: the next place.
    """

    def __init__(self, handle: int, start: int) -> None:
        self.at = start
        self._handle = handle
        self._written = start
        self._pieces: list[bytes] = []

    def put(self, place: int, data: bytes) -> None:
        """Write at a place, not before :attr:`at`."""
        if place > self.at:
            self._pieces.append(bytes(place - self.at))
        self._pieces.append(data)
        self.at = place + len(data)
        if self.at - self._written >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the kernel."""
        left = memoryview(b"".join(self._pieces))
        while left:
            count = os.pwrite(self._handle, left, self._written)
            self._written += count
            left = left[count:]
        self._pieces.clear()


class _Rendering:
    """One stream for inodes, one for the blocks behind them; each only goes forward."""

    def __init__(self, reader: CatalogReader, handle: int) -> None:
        self._reader = reader
        self._xattrs = rows.EncodedXattrs(reader)
        self._plan: Plan = plan(reader, self._xattrs)
        self._inodes = _Stream(handle, 0)
        self._blocks = _Stream(handle, self._plan.inodes_end)

    def run(self) -> None:
        inodes, nids = self._inodes, self._plan.nids
        first = disk.superblock(nids[ROOT_INO], self._plan.inodes, self._plan.size)
        inodes.put(disk.SUPER_OFFSET, first)
        for row in rows.scan(self._reader, bodies=True):
            place = nids[row[rows.INO]] << disk.SLOT_BITS
            if place >= inodes.at:  # not a further name of an inode that is there already
                inodes.put(place, self._inode(row))
        inodes.put(self._plan.inodes_end, b"")
        inodes.flush()
        self._blocks.flush()
        if self._blocks.at != self._plan.size:
            raise DamagedCatalog("the catalog changed while it was read")

    def _inode(self, row: Row) -> bytes:
        ino, mode, uid, gid, mtime_ns, _, _, major, minor, content_id, xattr_id = row[:11]
        entries = self._xattrs.entries(xattr_id, mode)
        layout, size, first, data = disk.FLAT_PLAIN, 0, 0, b""
        if content_id:
            entries = attributes.body_entries(_digest(row)) + entries
            size = row[rows.SIZE]
            layout, first, data = disk.CHUNK_BASED, disk.CHUNK_FORMAT, disk.HOLE * chunks(size)
        elif stat.S_ISDIR(mode):
            names = self._names(ino, row[rows.PARENT] or ino)
            layout, size, first, data = self._flat(ino, directories.pack(names))
        elif stat.S_ISLNK(mode):
            layout, size, first, data = self._flat(ino, iter((self._target(row),)))
        elif major or minor:
            first = disk.encode_device(major, minor)
        body = attributes.with_header(entries)
        seconds, nanoseconds = divmod(mtime_ns, _SECOND_NS)
        head = disk.INODE.pack(
            layout,
            attributes.count(len(body)),
            mode,
            0,
            size,
            first,
            ino & _NO_ID,
            NOBODY if uid == _NO_ID else uid,
            NOBODY if gid == _NO_ID else gid,
            seconds,
            nanoseconds,
            self._plan.links[ino],
            b"",
        )
        return head + body + data

    def _flat(self, ino: int, pieces: Iterator[bytes]) -> tuple[int, int, int, bytes]:
        """Put the whole blocks of data away: layout, size, first block, what goes inline."""
        blocks = self._blocks
        start = blocks.at
        size = 0
        piece = b""
        for following in pieces:
            if piece:
                blocks.put(blocks.at, piece)
            piece = following
            size += len(piece)
        if self._plan.tails[ino]:
            layout, inline = disk.FLAT_INLINE, piece
        else:
            layout, inline = disk.FLAT_PLAIN, b""
            blocks.put(blocks.at, piece.ljust(disk.BLOCK, b"\0"))
        if blocks.at - start != self._plan.blocks[ino] * disk.BLOCK:
            raise DamagedCatalog("the catalog changed while it was read")
        return layout, size, (start >> disk.BLOCK_BITS if blocks.at > start else 0), inline

    def _names(self, ino: int, parent: int) -> Iterator[Dirent]:
        nids, types = self._plan.nids, self._plan.types
        entries = (
            (name, nids[child], types[child]) for name, child in rows.children(self._reader, ino)
        )
        return directories.with_dots(entries, nids[ino], nids[parent])

    def _target(self, row: Row) -> bytes:
        target = self._reader.readlink(row[rows.INO])
        if len(target) != row[rows.SIZE]:
            raise DamagedCatalog(f"symlink {rules.shown(row[rows.NAME])} has another size")
        return target


def _digest(row: Row) -> bytes:
    """The digest of a file's body."""
    if row[rows.CONTENT_SIZE] != row[rows.SIZE]:
        raise DamagedCatalog(f"file {rules.shown(row[rows.NAME])} has not its content's size")
    return catalog_rows.digest(row[rows.DIGEST])
