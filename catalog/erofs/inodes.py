"""Reading inodes of an image that nobody has verified: as we write them, or refused."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from catalog import schema
from catalog.erofs import attributes, disk
from catalog.erofs.errors import DamagedImage
from catalog.erofs.plan import MAX_FILE_BYTES, chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.model import Xattrs

_SECOND_NS: Final = 1_000_000_000
_DEVICES: Final = (stat.S_IFCHR, stat.S_IFBLK)
_WITH_DATA: Final = (stat.S_IFDIR, stat.S_IFLNK)


@dataclass(frozen=True, slots=True)
class ImageNode:
    """One inode of an image.

    Attributes:
        nid: its number in the image: its offset / 32.
        mode: type and permission bits as in ``st_mode``.
        uid: owner.
        gid: group.
        mtime_ns: nanoseconds since the epoch.
        size: bytes of a file's body, of a symlink's target or of a directory's entries.
        nlink: names of a file; 2 + subdirectories for a directory.
        rdev: (major, minor) of a device.
        content: SHA-256 of a regular file's body; ``None`` for empty and other files.
        target: of a symlink, else empty.
        xattrs: in their order on the disk, without the two that say where a body is.
    """

    nid: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    nlink: int
    rdev: tuple[int, int]
    content: bytes | None
    target: bytes
    xattrs: Xattrs


@dataclass(frozen=True, slots=True)
class _Head:
    """The fixed part of an inode, and where the rest is."""

    layout: int
    icount: int
    mode: int
    size: int
    first: int
    uid: int
    gid: int
    mtime_ns: int
    nlink: int
    end: int

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.mode)


class Inodes:
    """The inodes of one image; reads no more bytes than it has.

    Args:
        handle: of the file.
        size: of the image.
        times: how often each byte may be read.

    Attributes:
        size: of the image.
    """

    def __init__(self, handle: int, size: int, times: int = 1) -> None:
        self.size = size
        self._handle = handle
        self._budget = size * times

    def read(self, nid: int) -> tuple[ImageNode, Iterator[bytes]]:
        """An inode, and the pieces of a directory's entries.

        Raises:
            DamagedImage: it is not as we write it.
        """
        head = self._head(nid)
        xattr_bytes = disk.XATTR_HEADER.size + 4 * (head.icount - 1) if head.icount else 0
        xattrs = attributes.decode(self._bytes(head.end, xattr_bytes))
        content, kept = self._content(head, xattrs, head.end + xattr_bytes)
        pieces = self._pieces(head, head.end + xattr_bytes)
        target = self._target(head, pieces) if head.kind == stat.S_IFLNK else b""
        is_device = head.kind in _DEVICES
        node = ImageNode(
            nid,
            head.mode,
            head.uid,
            head.gid,
            head.mtime_ns,
            head.size,
            head.nlink,
            disk.decode_device(head.first) if is_device else (0, 0),
            content,
            target,
            kept,
        )
        if head.kind == stat.S_IFCHR and node.rdev == (0, 0):
            raise DamagedImage("a whiteout")
        return node, pieces if head.kind == stat.S_IFDIR else iter(())

    def spans(self, nid: int) -> list[tuple[int, int]]:
        """Where an inode is, and where its data's whole blocks are: (offset, length) of each.

        Raises:
            DamagedImage: it is not as we write it.
        """
        head = self._head(nid)
        xattr_bytes = disk.XATTR_HEADER.size + 4 * (head.icount - 1) if head.icount else 0
        after = len(disk.HOLE) * chunks(head.size) if head.layout == disk.CHUNK_BASED else 0
        blocks = head.size if head.kind in _WITH_DATA else 0
        if head.layout == disk.FLAT_INLINE:
            after = head.size % disk.BLOCK
            blocks -= after
        start = nid << disk.SLOT_BITS
        found = [(start, head.end + xattr_bytes + after - start)]
        if blocks:
            first = head.first << disk.BLOCK_BITS
            found.append((first, disk.round_up(blocks, disk.BLOCK)))
        if any(offset + length > self.size for offset, length in found):
            raise DamagedImage("something lies behind the end")
        return found

    def _head(self, nid: int) -> _Head:
        at = nid << disk.SLOT_BITS
        if at < disk.FIRST_INODE:
            raise DamagedImage(f"inode {nid} is in the superblock")
        layout, icount, mode, zero, size, first, _, uid, gid, seconds, ns, nlink, rest = (
            disk.INODE.unpack(self._bytes(at, disk.INODE.size))
        )
        kind = stat.S_IFMT(mode)
        with_data = kind in _WITH_DATA
        plain = layout == disk.FLAT_PLAIN
        if (
            kind not in disk.FILE_TYPES
            or not (plain or with_data or (kind == stat.S_IFREG and layout == disk.CHUNK_BASED))
            or (with_data and not (plain or layout == disk.FLAT_INLINE))
            or (plain and not with_data and size)
            or (plain and first and kind not in (*_WITH_DATA, *_DEVICES))
            or (with_data and not size)
            or zero
            or any(rest)
            or ns >= _SECOND_NS
            or nlink < 1
        ):
            raise DamagedImage(f"inode {nid} is none of ours")
        mtime_ns = seconds * _SECOND_NS + ns
        end = at + disk.INODE.size
        return _Head(layout, icount, mode, size, first, uid, gid, mtime_ns, nlink, end)

    def _content(self, head: _Head, xattrs: Xattrs, after: int) -> tuple[bytes | None, Xattrs]:
        """Where a file's body is, and the attributes that are the image's own."""
        content = None
        if head.layout == disk.CHUNK_BASED:
            self._check_chunks(head, after)
            if [name for name, _ in xattrs[:2]] != [attributes.METACOPY, attributes.REDIRECT]:
                raise DamagedImage("a body that is nowhere")
            if xattrs[0][1]:
                raise DamagedImage("a body with more metadata than we write")
            content = attributes.redirected(xattrs[1][1])
            xattrs = xattrs[2:]
        if not attributes.are_kept(xattrs, head.mode):
            raise DamagedImage("an attribute that is never written")
        return content, xattrs

    def _check_chunks(self, head: _Head, at: int) -> None:
        if head.first != disk.CHUNK_FORMAT or not 0 < head.size <= MAX_FILE_BYTES:
            raise DamagedImage("chunks as we do not write them")
        indexes = disk.HOLE * chunks(head.size)
        if self._bytes(at, len(indexes)) != indexes:
            raise DamagedImage("a file with data")

    def _pieces(self, head: _Head, after: int) -> Iterator[bytes]:
        """Data of a directory or symlink, block by block."""
        blocks, rest = divmod(head.size, disk.BLOCK)
        start = head.first << disk.BLOCK_BITS
        for number in range(blocks):
            yield self._bytes(start + number * disk.BLOCK, disk.BLOCK)
        if head.layout == disk.FLAT_INLINE:
            if not rest or after % disk.BLOCK + rest > disk.BLOCK:
                raise DamagedImage("inline data that crosses a block")
            yield self._bytes(after, rest)
        elif rest:
            yield self._bytes(start + blocks * disk.BLOCK, rest)

    @staticmethod
    def _target(head: _Head, pieces: Iterator[bytes]) -> bytes:
        if head.size > schema.MAX_TARGET_BYTES:
            raise DamagedImage("a symlink's target is too long")
        target = b"".join(pieces)
        if b"\0" in target:
            raise DamagedImage("a NUL in a symlink's target")
        return target

    def _bytes(self, at: int, length: int) -> bytes:
        self._budget -= length
        if self._budget < 0:
            raise DamagedImage("bytes that are used twice")
        if at + length > self.size:
            raise DamagedImage("something lies behind the end")
        data = os.pread(self._handle, length, at)
        if len(data) != length:
            raise DamagedImage("the file was cut off while it was read")
        return data
