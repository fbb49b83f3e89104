"""Images that hold every kind of entry a layer can have, written by hand.

``odd``: the full tree that two independent tools unpack from it is what a thin mount of it is
compared with. ``tiny``: a few kilobytes, for tests that need any image.
"""

from __future__ import annotations

import functools
import io
import struct
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.image_cache import Layout, cached
from tests.support.layouts import make_layout
from tests.support.tarwrite import LayerTar

if TYPE_CHECKING:
    from collections.abc import Callable

_SOURCES: Final = tuple(
    Path(__file__).with_name(name) for name in ("odd_image.py", "tarwrite.py", "layouts.py")
)
# Beyond what 31 bits hold; the last run ends the file.
SPARSE_SIZE: Final = (3 << 30) + 12_345
_NS: Final = 1_000_000_000
_LINKED_NS: Final = 1_300_000_000_000_000_001
_DIR: Final = tarfile.DIRTYPE
_LONG: Final = b"n" * 255
_DEEP: Final = b"/".join(b"%03d" % level for level in range(60))
# vfs_ns_cap_data, version 2: effective, CAP_NET_BIND_SERVICE and CAP_NET_RAW permitted.
_CAPABILITY: Final = struct.pack("<IIIII", 0x02000001, 1 << 10 | 1 << 13, 0, 0, 0)

# Directories that no entry of any layer names: whoever unpacks makes them, at a time of its own.
UNNAMED: Final = frozenset(
    {
        b".",
        b"unnamed",
        b"unnamed/by",
        b"unnamed/by/anyone",
        *(b"/".join(_DEEP.split(b"/")[:depth]) for depth in range(1, 60)),
    }
)


def odd_image() -> Layout:
    """Every odd type of entry, in four layers. Its tag is ``odd``."""
    return cached("odd", _SOURCES, _build_odd)


def odd_image_without_cross_links() -> Layout:
    """The same without a hard link to a name of a lower layer, which containerd refuses."""
    return Layout(odd_image().directory, "odd-plain")


def tiny_image() -> Layout:
    """Two small layers. Its tag is ``tiny``."""
    return cached("tiny", _SOURCES, _build_tiny)


def _build_odd(layout: Path, work: Path) -> None:
    layers = [_written(_base), _written(_changes), _written(_last)]
    make_layout(layout, "odd-plain", layers)
    make_layout(layout, "odd", [*layers, _written(_cross_links)])


def _build_tiny(layout: Path, work: Path) -> None:
    def base(tar: LayerTar) -> None:
        tar.add(b"etc", _DIR)
        tar.add(b"etc/motd", data=b"hello\n")
        tar.add(b"etc/gone", data=b"removed by the next layer\n")

    def change(tar: LayerTar) -> None:
        tar.add(b"etc/.wh.gone")
        tar.add(b"etc/motd", data=b"hello again\n")

    make_layout(layout, "tiny", [_written(base), _written(change)])


def _written(write: Callable[[LayerTar], None]) -> bytes:
    stream = io.BytesIO()
    with LayerTar(stream) as tar:
        write(tar)
    return stream.getvalue()


def _base(tar: LayerTar) -> None:
    _modes_and_owners(tar)
    _symlinks(tar)
    _specials(tar)
    _xattrs(tar)
    _names(tar)
    _bodies(tar)
    _to_be_changed(tar)


def _modes_and_owners(tar: LayerTar) -> None:
    tar.add(b"modes", _DIR)
    for mode in (0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o000, 0o400):
        tar.add(b"modes/file-%04o" % mode, data=b"%o" % mode, mode=mode)
        tar.add(b"modes/dir-%04o" % mode, _DIR, mode=mode)
    tar.add(b"owners", _DIR, uid=1000, gid=1000)
    for uid, gid in ((0, 42), (65_534, 65_534), (2_097_152, 2_097_153), (4_294_967_294, 1)):
        tar.add(b"owners/%d-%d" % (uid, gid), uid=uid, gid=gid, data=b"x")
    tar.add(b"times", _DIR, mtime_ns=1_234_567_890_123_456_789)
    for name, mtime_ns in {
        b"nanoseconds": 1_600_000_000_000_000_001,
        b"almost-a-second": 1_600_000_000_999_999_999,
        b"zero": 0,
        b"before-1970": -86_400 * _NS,
        b"after-2038": 2_500_000_000 * _NS,
    }.items():
        tar.add(b"times/" + name, mtime_ns=mtime_ns)


def _symlinks(tar: LayerTar) -> None:
    tar.add(b"links", _DIR)
    for name, target in {
        b"dangling": b"nowhere",
        b"absolute": b"/names/plain",
        b"outside": b"../../../../etc/passwd",
        b"itself": b"itself",
        b"to-directory": b"../names",
        b"long": b"x/" * 1500 + b"end",
        b"not-utf-8": b"\xff\xfe",
    }.items():
        tar.add(
            b"links/" + name,
            tarfile.SYMTYPE,
            target=target,
            mode=0o777,
            uid=7,
            gid=8,
            mtime_ns=1_500_000_000_500_000_000,
        )


def _specials(tar: LayerTar) -> None:
    tar.add(b"special", _DIR)
    tar.add(b"special/null", tarfile.CHRTYPE, mode=0o666, device=(1, 3))
    tar.add(b"special/big-numbers", tarfile.CHRTYPE, mode=0o600, device=(511, 70_000))
    tar.add(b"special/disk", tarfile.BLKTYPE, mode=0o660, gid=6, device=(8, 17))
    tar.add(b"special/fifo", tarfile.FIFOTYPE, mode=0o622, mtime_ns=1_400_000_000_000_000_007)


def _xattrs(tar: LayerTar) -> None:
    tar.add(b"xattrs", _DIR, xattrs={"user.of-a-directory": b"yes", "trusted.dir": b"\0\1\2"})
    tar.add(
        b"xattrs/many",
        data=b"x",
        xattrs={f"user.number-{number:02}": b"%d" % number for number in range(30)},
    )
    tar.add(b"xattrs/4-kib", data=b"x", xattrs={"user.large": bytes(range(256)) * 16})
    tar.add(b"xattrs/empty-value", data=b"x", xattrs={"user.empty": b""})
    tar.add(b"xattrs/binary", data=b"x", xattrs={"user.binary": b"a\0b\n=\xff\xfe"})
    tar.add(
        b"xattrs/capability", data=b"x", mode=0o755, xattrs={"security.capability": _CAPABILITY}
    )
    tar.add(b"xattrs/trusted", data=b"x", xattrs={"trusted.note": b"root only"})
    tar.add(
        b"xattrs/acl",
        data=b"x",
        mode=0o664,
        xattrs={
            "system.posix_acl_access": _acl((1, 6), (2, 4, 1000), (4, 4), (0x10, 6), (0x20, 4))
        },
    )
    tar.add(
        b"xattrs/acl-dir",
        _DIR,
        mode=0o755,
        xattrs={"system.posix_acl_default": _acl((1, 7), (4, 5), (8, 7, 50), (0x10, 7), (0x20, 5))},
    )
    tar.add(
        b"xattrs/symlink",
        tarfile.SYMTYPE,
        target=b"x",
        mode=0o777,
        xattrs={"trusted.of-a-symlink": b"1"},
    )


def _acl(*entries: tuple[int, int] | tuple[int, int, int]) -> bytes:
    """An ACL as the kernel keeps it: version 2, then tag, permissions, id of each entry."""
    undefined = 0xFFFFFFFF
    packed = (struct.pack("<HHI", *(*entry, undefined)[:3]) for entry in entries)
    return struct.pack("<I", 2) + b"".join(packed)


def _names(tar: LayerTar) -> None:
    tar.add(b"names", _DIR)
    for name in (
        *(b"plain", b"with space", b"new\nline", b"tab\t", b'quote"\\', b"-dash", b"*", b"~"),
        *(b"\xff\xfe not utf-8", b"caf\xc3\xa9", b"cafe\xcc\x81", b"\x01\x7f", b" ", b"..."),
        *(_LONG, b".wh", b"x.wh.y", b"comma,colon:equals="),
    ):
        tar.add(b"names/" + name, data=name)
    tar.add(b"unnamed/by/anyone/file", data=b"its parents are in no layer")
    tar.add(_DEEP, data=b"at the bottom")
    tar.add(b"long", _DIR)
    path = b"long"
    for number in range(8):
        path += b"/" + _LONG[:-1] + b"%d" % number
        tar.add(path, _DIR)
    tar.add(path + b"/file", data=b"behind 2000 bytes of path")


def _bodies(tar: LayerTar) -> None:
    tar.add(b"bodies", _DIR)
    pattern = bytes(range(251))
    for size in (0, 1, 131_071, 131_072, 131_073, 1 << 20, (1 << 20) + 1, 5_000_000):
        tar.add(b"bodies/%d" % size, data=(pattern * (size // 251 + 1))[:size])
    tar.add(b"bodies/copy", data=(pattern * 4179)[: 1 << 20])
    tar.add(b"bodies/zeros", data=bytes(3_000_000))
    tar.add_sparse(
        b"bodies/sparse",
        SPARSE_SIZE,
        {0: b"begin", 1_048_575: b"astride", (1 << 31) - 3: b"2-gib", SPARSE_SIZE - 3: b"end"},
    )


def _to_be_changed(tar: LayerTar) -> None:
    """What the next layer replaces, hides or links to."""
    tar.add(b"change", _DIR)
    for name in (b"file-to-dir", b"file-to-link", b"removed", b"same", b"kept", b"readded"):
        tar.add(b"change/" + name, data=b"old " + name)
    for name in (b"dir-to-file", b"dir-to-link", b"removed-dir", b"opaque", b"opaque-last"):
        tar.add(b"change/" + name, _DIR, mode=0o750)
        tar.add(b"change/" + name + b"/old", data=b"old")
        tar.add(b"change/" + name + b"/sub", _DIR)
        tar.add(b"change/" + name + b"/sub/older", data=b"older")
    tar.add(b"change/link-to-dir", tarfile.SYMTYPE, target=b"opaque", mode=0o777)
    tar.add(b"change/metadata-only", data=b"body stays", mode=0o600)
    tar.add(b"change/dir-metadata", _DIR, mode=0o700, xattrs={"user.old": b"1"})
    tar.add(b"change/dir-metadata/inside", data=b"stays")
    tar.add(b"hard", _DIR)
    tar.add(b"elsewhere", _DIR)
    # The header of a link repeats the inode's attributes: some unpackers apply them again.
    add = functools.partial(tar.add, mode=0o640, uid=3, gid=4, mtime_ns=_LINKED_NS)
    add(b"hard/first", data=b"one body, several names", xattrs={"user.h": b"1"})
    add(b"hard/second", tarfile.LNKTYPE, target=b"hard/first", xattrs={"user.h": b"1"})
    add(b"elsewhere/third", tarfile.LNKTYPE, target=b"hard/second", xattrs={"user.h": b"1"})
    tar.add(b"hard/pair", data=b"one of these goes")
    tar.add(b"hard/pair-gone", tarfile.LNKTYPE, target=b"hard/pair")
    tar.add(b"hard/fifo", tarfile.FIFOTYPE, mode=0o600)
    tar.add(b"hard/fifo-too", tarfile.LNKTYPE, target=b"hard/fifo", mode=0o600)
    add(b"hard/lower", data=b"linked to by the layer above")


def _changes(tar: LayerTar) -> None:
    """Replaced types, whiteouts in every position, opaque directories."""
    tar.add(b"change", _DIR, mtime_ns=1_610_000_000_000_000_009)
    tar.add(b"change/file-to-dir", _DIR)
    tar.add(b"change/file-to-dir/new", data=b"new")
    tar.add(b"change/file-to-link", tarfile.SYMTYPE, target=b"kept", mode=0o777)
    tar.add(b"change/dir-to-file", data=b"now a file")
    tar.add(b"change/dir-to-link", tarfile.SYMTYPE, target=b"opaque", mode=0o777)
    tar.add(b"change/link-to-dir", _DIR, mode=0o711)
    tar.add(b"change/link-to-dir/new", data=b"not in the link's target")
    tar.add(b"change/same", data=b"old same", mode=0o755)
    tar.add(b"change/metadata-only", data=b"body stays", mode=0o4755, uid=9)
    tar.add(b"change/dir-metadata", _DIR, mode=0o1777, xattrs={"user.new": b"2"})
    tar.add(b"change/.wh.removed")
    tar.add(b"change/.wh.removed-dir")
    tar.add(b"change/.wh.never-was-there")
    tar.add(b"change/.wh.readded")
    tar.add(b"change/readded", data=b"the whiteout is for the layers below")
    tar.add(b"change/opaque", _DIR, mode=0o755)
    tar.add(b"change/opaque/.wh..wh..opq")
    tar.add(b"change/opaque/new", data=b"new")
    tar.add(b"change/opaque-last", _DIR, mode=0o755)
    tar.add(b"change/opaque-last/new", data=b"written before the marker")
    tar.add(b"change/opaque-last/.wh..wh..opq")
    tar.add(b"hard/.wh.pair-gone")


def _last(tar: LayerTar) -> None:
    """A third layer changes what the second one made."""
    tar.add(b"change/opaque/second", data=b"a file in a directory that was opaque below")
    tar.add(b"change/opaque/.wh.new")
    tar.add(b"special/null", data=b"a device no more")
    tar.add(b"links/absolute", tarfile.CHRTYPE, mode=0o600, device=(1, 5))


def _cross_links(tar: LayerTar) -> None:
    """Hard links to names of lower layers: one inode, with all it has."""
    add = functools.partial(tar.add, mode=0o640, uid=3, gid=4, mtime_ns=_LINKED_NS)
    add(b"hard/to-lower", tarfile.LNKTYPE, target=b"hard/lower")
    add(b"elsewhere/to-lower-too", tarfile.LNKTYPE, target=b"hard/lower")
