"""Rows of a catalog that nobody has verified, turned into values or refused."""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, Any, Final

from catalog import rules, schema
from catalog.errors import DamagedCatalog
from catalog.model import DIGEST_BYTES, Content, Extent, Node, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Packing is the fastest way to ask for integers within ranges: anything else fails in C.
_CHECK_NODE: Final = struct.Struct("<QHIIqqIIIqqB").pack
_CHECK_POSITIVE: Final = struct.Struct("<4Q").pack
_REGULAR: Final = stat.S_IFREG
_LINK: Final = stat.S_IFLNK
_DIRECTORY: Final = stat.S_IFDIR
_DEVICES: Final = (stat.S_IFCHR, stat.S_IFBLK)


def node_query(rest: str) -> str:
    """A query whose first twelve columns are what :func:`node` takes, from ``inode i``.

    Args:
        rest: constant text: more columns, and what follows them.
    """
    return (
        "SELECT i.ino, i.mode, i.uid, i.gid, i.mtime_ns, i.size, i.nlink, i.major, i.minor, "
        f"i.content_id, i.xattr_id, i.flags {rest}"
    )


def check_node(row: Sequence[Any]) -> None:
    """Refuse twelve columns of :func:`node_query` that are no inode.

    Raises:
        DamagedCatalog: a value is out of its range or contradicts another.
    """
    try:
        _CHECK_NODE(*row)
    except struct.error as error:
        raise DamagedCatalog(f"inode {row[0]!r} has a value out of range") from error
    ino, mode, _, _, _, size, nlink, major, minor, content_id, xattr_id, flags = row
    kind = mode & 0o170000
    if (
        kind not in rules.FILE_TYPES
        or not 1 <= ino <= schema.MAX_INO
        or size < 0
        or nlink < 1
        or content_id < 0
        or xattr_id < 0
        or (content_id > 0) != (kind == _REGULAR and size > 0)
        or (size and kind not in (_REGULAR, _LINK))
        or (flags and (kind != _DIRECTORY or flags > 3))
        or ((major or minor) and kind not in _DEVICES)
        or major > schema.MAX_MAJOR
        or minor > schema.MAX_MINOR
    ):
        raise DamagedCatalog(f"inode {ino} contradicts itself")


def node(row: Sequence[Any]) -> Node:
    """The twelve columns of :func:`node_query` as a value.

    Raises:
        DamagedCatalog: a value is out of its range or contradicts another.
    """
    check_node(row)
    ino, mode, uid, gid, mtime_ns, size, nlink, major, minor, content_id, xattr_id, flags = row
    return Node(
        ino,
        mode,
        uid,
        gid,
        mtime_ns,
        size,
        nlink,
        (major, minor),
        content_id,
        xattr_id > 0,
        flags & schema.FLAG_OPAQUE != 0,
        flags & schema.FLAG_IMPLIED != 0,
    )


def below(parent: int, child: Node) -> Node:
    """A node that was found in a directory.

    Raises:
        DamagedCatalog: it is a directory that is not numbered after its parent: it could be in
            a cycle.
    """
    if child.ino <= parent and stat.S_ISDIR(child.mode):
        raise DamagedCatalog(f"directory {child.ino} is below directory {parent}")
    return child


def name(value: object) -> bytes:
    """A name of a directory.

    Raises:
        DamagedCatalog: it is no name.
    """
    if type(value) is not bytes or not rules.is_name(value):
        raise DamagedCatalog(f"{value!r:.80} is no file name")
    return value


def path(value: object) -> bytes:
    """A path from the root, not empty.

    Raises:
        DamagedCatalog: it is none.
    """
    if type(value) is not bytes or len(value) > schema.MAX_LINK_PATH_BYTES:
        raise DamagedCatalog("a link's path is no path")
    for part in value.split(b"/"):
        name(part)
    return value


def target(value: object) -> bytes:
    """A symlink's target.

    Raises:
        DamagedCatalog: it is none.
    """
    if type(value) is not bytes or not 0 < len(value) <= schema.MAX_TARGET_BYTES or b"\0" in value:
        raise DamagedCatalog("a symlink's target is none")
    return value


def xattr(row: Sequence[Any]) -> tuple[bytes, bytes]:
    """A (name, value) row of a set.

    Raises:
        DamagedCatalog: the name or value is none, or one that overlayfs would obey.
    """
    key, value = row
    if (
        type(key) is not bytes
        or type(value) is not bytes
        or not 0 < len(key) <= schema.MAX_XATTR_NAME_BYTES
        or len(value) > schema.MAX_XATTR_VALUE_BYTES
        or b"\0" in key
        or key.startswith(rules.OVERLAY_XATTRS)
    ):
        raise DamagedCatalog("an extended attribute that no catalog may hold")
    return key, value


def digest(value: object) -> bytes:
    """A raw SHA-256 digest.

    Raises:
        DamagedCatalog: it is none.
    """
    if type(value) is not bytes or len(value) != DIGEST_BYTES:
        raise DamagedCatalog(f"{value!r:.80} is no digest")
    return value


def object_ref(row: Sequence[Any]) -> ObjectRef:
    """A (digest, size, stored_size) row.

    Raises:
        DamagedCatalog: a value is out of its range.
    """
    key, size, stored_size = row
    _check_sizes("an object", size, stored_size)
    return ObjectRef(digest(key), size, stored_size)


def content(key: object, size: Any, extents: Iterable[Sequence[Any]]) -> Content:
    """A content of its digest, size, and rows as :func:`extent` takes them, ascending.

    Raises:
        DamagedCatalog: a value is out of its range, or extents overlap or leave the content.
    """
    _check_sizes("a content", size)
    runs = []
    end = 0
    for row in extents:
        run = extent(row)
        if run.offset < end:
            raise DamagedCatalog("extents of a content overlap")
        end = run.offset + run.length
        if end > size:
            raise DamagedCatalog("an extent ends after its content")
        runs.append(run)
    return Content(digest(key), size, tuple(runs))


def extent(row: Sequence[Any]) -> Extent:
    """A (offset, length, object digest, object offset, object size) row.

    Raises:
        DamagedCatalog: a value is out of its range, or the extent leaves its object.
    """
    offset, length, key, object_offset, object_size = row
    try:
        _CHECK_POSITIVE(offset, length, object_offset, object_size)
    except struct.error as error:
        raise DamagedCatalog("an extent has a value out of range") from error
    if length < 1 or object_offset + length > object_size:
        raise DamagedCatalog("an extent ends after its object")
    return Extent(offset, length, digest(key), object_offset)


def _check_sizes(what: str, *sizes: object) -> None:
    for size in sizes:
        if type(size) is not int or size < 1:
            raise DamagedCatalog(f"{what} has a size out of range")
