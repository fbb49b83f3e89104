"""The values a catalog is written from and answers with.

A *tree* is every name, inode, xattr and extent of one layer or of one root. Paths and names
are ``bytes``: image paths need not be UTF-8. Digests are raw SHA-256 values of 32 bytes.
"""

from __future__ import annotations

import enum
import stat
from dataclasses import dataclass

DIGEST_BYTES = 32
"""Length of a raw SHA-256 digest."""

ROOT_INO = 1
"""Inode number of every tree's root directory."""

OPAQUE_XATTR = b"trusted.overlay.opaque"
"""What overlayfs calls a directory that hides everything below it (value ``y``)."""

MAX_NAME_BYTES = 255
"""Longest name of one directory entry (POSIX NAME_MAX on Linux)."""

MAX_PATH_DEPTH = 4096
"""Most components a path inside an image may have."""

Xattrs = tuple[tuple[bytes, bytes], ...]
"""Extended attributes as (name with its prefix, value), ascending by name, names unique."""


class TreeKind(enum.StrEnum):
    """What a catalog's tree is: one layer's changes, or a composed root without whiteouts."""

    LAYER = "layer"
    ROOT = "root"


class EntryKind(enum.Enum):
    """What one :class:`Entry` puts into a tree."""

    NODE = enum.auto()  # a directory, file, symlink, device, fifo or socket
    HARDLINK = enum.auto()  # one more name for the node at ``target``
    WHITEOUT = enum.auto()  # the name is absent, whatever lower layers hold
    OPAQUE = enum.auto()  # the directory at ``path`` hides what lower layers hold below it


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One stored object: at most 1 MiB of bytes, kept as one zstd frame.

    Attributes:
        digest: SHA-256 of the uncompressed bytes, 32 bytes.
        size: uncompressed bytes, at least 1.
        stored_size: bytes of the zstd frame, at least 1.
    """

    digest: bytes
    size: int
    stored_size: int


@dataclass(frozen=True, slots=True)
class Extent:
    """One run of a content's bytes and the object that holds it.

    Attributes:
        offset: first byte in the content, from 0.
        length: bytes in the run, at least 1.
        object: digest of the uncompressed object.
        object_offset: first byte inside the uncompressed object.
    """

    offset: int
    length: int
    object: bytes
    object_offset: int


@dataclass(frozen=True, slots=True)
class Content:
    """The body of regular files, and where its bytes are.

    Attributes:
        digest: SHA-256 of the whole body, 32 bytes.
        size: bytes, at least 1 (an empty file has no content).
        extents: ascending by offset, without overlap. Bytes that no extent covers are zero
            (holes of sparse files).
    """

    digest: bytes
    size: int
    extents: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement about a tree, as a layer's tar stream makes it.

    Attributes:
        path: components joined by ``/``, without a leading or trailing slash; ``b""`` is the
            root itself. No empty component, ``.``, ``..`` or NUL.
        kind: what the entry does; the attributes below that do not apply are left at their
            defaults.
        mode: type and permission bits as in ``st_mode`` (NODE only).
        uid: owner, 0 to 2**32 - 1.
        gid: group, 0 to 2**32 - 1.
        mtime_ns: modification time, nanoseconds since the epoch, may be negative.
        size: bytes of a regular file.
        content: digest of a regular file's body; ``None`` exactly when ``size`` is 0.
        target: a symlink's target, or the path (same form as ``path``) a HARDLINK names.
        rdev: (major, minor) of a device.
        xattrs: extended attributes of a NODE.
    """

    path: bytes
    kind: EntryKind = EntryKind.NODE
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    content: bytes | None = None
    target: bytes = b""
    rdev: tuple[int, int] = (0, 0)
    xattrs: Xattrs = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One inode of a tree, as a reader answers it.

    Attributes:
        ino: from 1 (the root), dense, smaller than 2**40.
        mode: type and permission bits as in ``st_mode``.
        uid: owner.
        gid: group.
        mtime_ns: nanoseconds since the epoch.
        size: bytes of a file's body or of a symlink's target, else 0.
        nlink: names of a file; 2 + subdirectories for a directory.
        rdev: (major, minor) of a device.
        content_id: the file body's number in this catalog, 0 when the body is empty or the
            node is not a regular file.
        has_xattrs: whether :meth:`CatalogReader.xattrs` would answer any.
        opaque: a layer's directory that hides lower layers (never in a root tree).
        implied: a layer's directory that no entry named, only paths below it
            (never in a root tree).
    """

    ino: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    nlink: int
    rdev: tuple[int, int]
    content_id: int
    has_xattrs: bool
    opaque: bool = False
    implied: bool = False

    @property
    def is_whiteout(self) -> bool:
        """Whether this is a whiteout: a character device 0:0, as overlayfs marks them."""
        return stat.S_ISCHR(self.mode) and self.rdev == (0, 0)


@dataclass(frozen=True, slots=True)
class DirEntry:
    """One name in a directory.

    Attributes:
        name: 1 to 255 bytes.
        node: what the name stands for.
        cookie: position after this entry; give it to ``readdir`` to go on from there.
    """

    name: bytes
    node: Node
    cookie: int


@dataclass(frozen=True, slots=True)
class ContentRef:
    """A content that lies in an object, as listed by ``contents_in``.

    Attributes:
        content_id: the content's number in this catalog.
        digest: SHA-256 of the whole content.
        size: bytes of the whole content.
        extent: the run of it that lies in the object.
    """

    content_id: int
    digest: bytes
    size: int
    extent: Extent


@dataclass(frozen=True, slots=True)
class CatalogSummary:
    """Counts of a finished catalog.

    Attributes:
        kind: layer or root.
        inodes: nodes, the root included.
        names: directory entries.
        contents: distinct file bodies.
        objects: distinct objects they lie in.
        content_bytes: sum of the sizes of distinct contents.
        file_bytes: sum of the sizes of all regular files, hard links counted once.
    """

    kind: TreeKind
    inodes: int
    names: int
    contents: int
    objects: int
    content_bytes: int
    file_bytes: int
