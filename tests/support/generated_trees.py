"""Trees of every kind of entry, as Hypothesis makes them up."""

from __future__ import annotations

import contextlib
import stat
import struct
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from catalog.errors import InvalidEntry
from catalog.model import Entry, EntryKind, ObjectRef, TreeKind
from catalog.writer import CatalogWriter
from tests.support.catalogs import OBJECT, OBJECT_BYTES, content_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from catalog.model import Xattrs

MAX_SIZE = 1 << 48
_ID = 0xFFFFFFFF
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, _ID), (2, 4, 1000), (4, 4, _ID), (0x10, 6, _ID), (0x20, 4, _ID))
)
"""A POSIX ACL that the kernel takes, in the order it keeps."""

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""CAP_NET_BIND_SERVICE, as the kernel keeps it."""

ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")

_FEW_NAMES = st.sampled_from([b"a", b"b", b"!", b"-", b".a", b"..a", b"...", b"\xff", b"n" * 255])
_ANY_NAMES = (
    st.binary(min_size=1, max_size=255)
    .map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"0"))
    .filter(lambda name: name not in (b".", b".."))
)
NAMES = st.one_of(_FEW_NAMES, _FEW_NAMES, _ANY_NAMES)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)
IDS = st.one_of(st.sampled_from([0, 1000, 65535, 65536, _ID - 1, _ID]), st.integers(0, _ID))
TIMES = st.one_of(
    st.sampled_from([0, -1, -(1 << 63), (1 << 63) - 1]), st.integers(-(1 << 63), (1 << 63) - 1)
)
MODES = st.integers(0, 0o7777)
SIZES = st.one_of(
    st.sampled_from([0, 1, 4096, 3 << 30, 1 << 43, (1 << 43) + 1, MAX_SIZE]),
    st.integers(0, MAX_SIZE),
)
# Few different values, so that sets are shared between inodes; large ones cross blocks.
VALUES = st.one_of(
    st.binary(max_size=8),
    st.builds(lambda byte, size: byte * size, st.sampled_from([b"\0", b"v"]), st.integers(0, 9000)),
)
XATTR_NAMES = st.one_of(
    st.sampled_from(
        [
            *(b"user.a", b"user.", b"user.overlay.opaque", b"trusted.overlay.redirect"),
            *(b"trusted.t", b"trusted.overlay", b"security.x", b"security."),
            *(b"system.nfs4_acl", b"btrfs.x", b"nothing", b"user." + b"l" * 250),
        ]
    ),
    st.integers(0, 40).map(lambda number: b"user.%d" % number),
)


def _pairs(found: dict[bytes, bytes]) -> Xattrs:
    return tuple(sorted(found.items()))


XATTRS = st.builds(
    lambda plain, acls, bad: _pairs(plain | acls | bad),
    st.dictionaries(XATTR_NAMES, VALUES, max_size=6),
    st.sets(st.sampled_from(ACLS)).map(lambda names: dict.fromkeys(names, ACL)),
    st.dictionaries(
        st.sampled_from([*ACLS, b"security.capability"]),
        st.sampled_from([CAPABILITY, ACL[:-8], b""]),
        max_size=1,
    ),
)
SOME_XATTRS = st.one_of(st.just(()), XATTRS)
_COMMON = {"uid": IDS, "gid": IDS, "mtime_ns": TIMES, "xattrs": SOME_XATTRS}


def _node(kind: int, **more: st.SearchStrategy[object]) -> st.SearchStrategy[Entry]:
    paths = st.one_of(PATHS, st.just(b"")) if kind == stat.S_IFDIR else PATHS
    modes = MODES.map(lambda mode: kind | mode)
    return st.builds(Entry, path=paths, mode=modes, **_COMMON, **more)


_FILES = st.builds(
    lambda entry, size: Entry(
        entry.path,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime_ns=entry.mtime_ns,
        xattrs=entry.xattrs,
        size=size,
        content=size.to_bytes(32, "little") if size else None,
    ),
    _node(stat.S_IFREG),
    SIZES,
)
_TARGETS = st.one_of(
    st.binary(min_size=1, max_size=40).map(lambda target: target.replace(b"\0", b"0")),
    st.integers(1, 4095).map(lambda size: b"t" * size),
)
_DEVICES = st.tuples(
    st.one_of(st.integers(0, 2), st.integers(0, 4095)), st.integers(0, (1 << 20) - 1)
).filter(any)
ENTRIES = st.one_of(
    _node(stat.S_IFDIR),
    _FILES,
    _FILES,
    _node(stat.S_IFLNK, target=_TARGETS),
    _node(stat.S_IFCHR, rdev=_DEVICES),
    _node(stat.S_IFBLK, rdev=_DEVICES),
    _node(stat.S_IFIFO),
    _node(stat.S_IFSOCK),
    st.builds(Entry, PATHS, st.just(EntryKind.HARDLINK), target=PATHS),
    st.builds(Entry, PATHS, st.just(EntryKind.HARDLINK), target=PATHS),
)
_MANY = st.builds(
    lambda path, count, size: [
        Entry(b"%b/%05d%b" % (path, number, b"m" * size), mode=0o100644) for number in range(count)
    ],
    PATHS,
    st.integers(1, 300),
    st.integers(0, 250),
)
TREES = st.builds(
    lambda entries, many: [*entries, *many],
    st.lists(ENTRIES, max_size=25),
    st.one_of(st.just([]), st.just([]), _MANY),
)


def write_root(path: Path, entries: Iterable[Entry]) -> None:
    """Write a root of the entries that can be applied; the others are left out."""
    with CatalogWriter(path, TreeKind.ROOT) as writer:
        writer.add_object(ObjectRef(OBJECT, OBJECT_BYTES, 1000))
        for entry in entries:
            with contextlib.suppress(InvalidEntry):
                writer.add(entry)
                if entry.content is not None:
                    writer.add_content(content_of(entry))
        writer.finish()
