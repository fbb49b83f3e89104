"""What a tree may hold: pure checks of entries, contents and objects before they are written."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from catalog import schema
from catalog.errors import InvalidEntry
from catalog.model import DIGEST_BYTES, MAX_NAME_BYTES, MAX_PATH_DEPTH

if TYPE_CHECKING:
    from catalog.model import Content, Entry, ObjectRef, Xattrs

OVERLAY_XATTRS = (b"trusted.overlay.", b"user.overlay.")
"""Attributes that overlayfs would obey: an image never brings its own."""

FILE_TYPES = frozenset(
    (
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFCHR,
        stat.S_IFBLK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
    )
)
MAX_MODE = 0o177777
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)


def is_name(name: bytes) -> bool:
    """Whether ``name`` may stand in a directory."""
    return (
        0 < len(name) <= MAX_NAME_BYTES
        and b"/" not in name
        and b"\0" not in name
        and name not in (b".", b"..")
    )


def split_path(path: bytes) -> list[bytes]:
    """The components of a path; none for the root.

    Raises:
        InvalidEntry: a component is no name, or there are too many.
    """
    parts = path.split(b"/") if path else []
    if len(parts) > MAX_PATH_DEPTH:
        raise InvalidEntry(f"a path of {len(parts)} components, more than {MAX_PATH_DEPTH}")
    for part in parts:
        if not is_name(part):
            raise InvalidEntry(f"{shown(path)}: {shown(part)} is no file name")
    return parts


def shown(path: bytes) -> str:
    """A path for a message: on one line, never longer than a terminal bears."""
    text = repr(path)[1:]
    return text if len(text) <= 200 else f"{text[:190]}…{text[-9:]}"


def check_node(entry: Entry) -> None:
    """Refuse a NODE entry with a value out of range or values that contradict each other."""
    kind = entry.mode & 0o170000
    if kind not in FILE_TYPES or not 0 <= entry.mode <= MAX_MODE:
        raise _refused(entry, f"mode {entry.mode:#o}")
    if not (0 <= entry.uid <= schema.MAX_ID and 0 <= entry.gid <= schema.MAX_ID):
        raise _refused(entry, f"owner {entry.uid}:{entry.gid}")
    if not schema.MIN_INT64 <= entry.mtime_ns <= schema.MAX_INT64:
        raise _refused(entry, f"time {entry.mtime_ns} ns")
    if kind == stat.S_IFREG:
        _check_body(entry)
    elif entry.content is not None or (entry.size and kind != stat.S_IFLNK):
        raise _refused(entry, "a body on what is no regular file")
    if kind == stat.S_IFLNK:
        _check_target(entry)
    if kind in _DEVICES:
        _check_device(entry)


def _check_body(entry: Entry) -> None:
    if not 0 <= entry.size <= schema.MAX_INT64:
        raise _refused(entry, f"size {entry.size}")
    if (entry.content is None) != (entry.size == 0):
        raise _refused(entry, "a size without a content, or the other way round")
    if entry.content is not None and len(entry.content) != DIGEST_BYTES:
        raise _refused(entry, f"a digest of {len(entry.content)} bytes")


def _check_target(entry: Entry) -> None:
    if not 0 < len(entry.target) <= schema.MAX_TARGET_BYTES or b"\0" in entry.target:
        raise _refused(entry, f"a symlink target of {len(entry.target)} bytes or with a NUL")


def _check_device(entry: Entry) -> None:
    major, minor = entry.rdev
    if not (0 <= major <= schema.MAX_MAJOR and 0 <= minor <= schema.MAX_MINOR):
        raise _refused(entry, f"device {major}:{minor}")


def kept_xattrs(entry: Entry) -> Xattrs:
    """The attributes of an entry without overlayfs' own, ascending by name.

    Raises:
        InvalidEntry: a name or value is too long, a name repeats, or the names are too many.
    """
    kept = tuple(sorted(pair for pair in entry.xattrs if not pair[0].startswith(OVERLAY_XATTRS)))
    for name, value in kept:
        if not 0 < len(name) <= schema.MAX_XATTR_NAME_BYTES or b"\0" in name:
            raise _refused(entry, f"extended attribute {shown(name)}")
        if len(value) > schema.MAX_XATTR_VALUE_BYTES:
            raise _refused(entry, f"extended attribute {shown(name)} of {len(value)} bytes")
    if sum(len(name) + 1 for name, _ in kept) > schema.MAX_XATTR_LIST_BYTES:
        raise _refused(entry, "too many extended attributes")
    if len({name for name, _ in kept}) != len(kept):
        raise _refused(entry, "an extended attribute is given twice")
    return kept


def check_object(ref: ObjectRef) -> None:
    """Refuse an object with a value out of range."""
    sizes = ref.size, ref.stored_size
    if len(ref.digest) != DIGEST_BYTES or not all(1 <= n <= schema.MAX_INT64 for n in sizes):
        raise InvalidEntry(f"object {ref.digest.hex()}: size {ref.size}, stored {ref.stored_size}")


def check_content(content: Content) -> None:
    """Refuse a content whose extents overlap, are out of order or leave it."""
    name = content.digest.hex()
    if len(content.digest) != DIGEST_BYTES or not 1 <= content.size <= schema.MAX_INT64:
        raise InvalidEntry(f"content {name}: size {content.size}")
    end = 0
    for extent in content.extents:
        if extent.offset < end or extent.length < 1 or extent.object_offset < 0:
            raise InvalidEntry(f"content {name}: extent at {extent.offset} is out of order")
        if len(extent.object) != DIGEST_BYTES:
            raise InvalidEntry(f"content {name}: extent at {extent.offset} names no object")
        end = extent.offset + extent.length
    if end > content.size:
        raise InvalidEntry(f"content {name}: an extent ends at {end}, after {content.size}")


def _refused(entry: Entry, why: str) -> InvalidEntry:
    return InvalidEntry(f"{shown(entry.path)}: {why}")
