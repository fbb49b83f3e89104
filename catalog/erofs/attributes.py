"""Extended attributes behind an inode: what is written, how, and how it is read back.

Some attributes that a tree may name are left out, because no file system would have taken them
from an unpacker and because overlayfs could not copy up a file that lists an attribute which
cannot be read:

- names outside ``user.``, ``trusted.``, ``security.`` and the two POSIX ACLs (EROFS has no
  number for them), and names that are nothing but such a prefix;
- ``user.*`` on anything but regular files and directories (xattr(7));
- ACLs on symlinks, and default ACLs on anything but directories;
- ACLs and ``security.capability`` with values that the kernel refuses;
- ``trusted.overlay.*`` and ``user.overlay.*`` of the image: overlayfs would obey them.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from catalog import rules
from catalog.erofs import disk, values
from catalog.erofs.errors import CannotRender, DamagedImage

if TYPE_CHECKING:
    from catalog.model import Xattrs

METACOPY: Final = b"trusted.overlay.metacopy"
"""To overlayfs: this file's body is in another layer."""

REDIRECT: Final = b"trusted.overlay.redirect"
"""To overlayfs: where in the data-only layers the body is, from their root."""

_USER: Final = 1
_DEFAULT_ACL: Final = 3
_ACLS: Final = (2, _DEFAULT_ACL)
_TRUSTED: Final = 4
_SECURITY: Final = 6
_CAPABILITY: Final = b"capability"
_OVERLAY: Final = b"overlay."  # of the two spaces where overlayfs looks, user and trusted
_HEADER: Final = disk.XATTR_HEADER.pack(0, 0, bytes(7))
_DIGEST_HEX: Final = 64


def encode(xattrs: Xattrs, mode: int) -> bytes:
    """The entries of an inode, without the header; empty when none is kept.

    Raises:
        CannotRender: a value is too long, or all together are.
    """
    kind = stat.S_IFMT(mode)
    return b"".join(
        _entry(*placed, value)
        for name, value in xattrs
        if (placed := _place(name)) and _is_kept(*placed, value, kind)
    )


def are_kept(xattrs: Xattrs, mode: int) -> bool:
    """Whether :func:`encode` leaves none of them out."""
    kind = stat.S_IFMT(mode)
    return all(
        (placed := _place(name)) and _is_kept(*placed, value, kind) for name, value in xattrs
    )


def with_header(entries: bytes) -> bytes:
    """The whole of an inode's attributes, of its entries; empty for none."""
    return _HEADER + entries if entries else b""


def body_size(entries: int) -> int:
    """Bytes of all attributes of an inode, of the bytes of their entries.

    Raises:
        CannotRender: they are more than an inode can have.
    """
    size = len(_HEADER) + entries if entries else 0
    if size > disk.MAX_XATTR_BYTES:
        raise CannotRender(f"{entries} bytes of extended attributes of one file")
    return size


def count(body: int) -> int:
    """``i_xattr_icount`` of attributes of ``body`` bytes, header included."""
    return (body - len(_HEADER) >> 2) + 1 if body else 0


def redirect(digest: bytes) -> bytes:
    """Where the data-only layers of a root have a content: ``/<aa>/<sha256>``."""
    name = digest.hex().encode()
    return b"/%b/%b" % (name[:2], name)


def redirected(value: bytes) -> bytes:
    """The inverse of :func:`redirect`.

    Raises:
        DamagedImage: the value is no such place.
    """
    try:
        digest = bytes.fromhex(value[-_DIGEST_HEX:].decode("ascii"))
    except ValueError as error:
        raise DamagedImage(f"{value!r:.100} is no place of a content") from error
    if len(digest) * 2 != _DIGEST_HEX or redirect(digest) != value:
        raise DamagedImage(f"{value!r:.100} is no place of a content")
    return digest


def decode(body: bytes) -> Xattrs:
    """The attributes that :func:`with_header` gave, in their order on the disk.

    Raises:
        DamagedImage: the bytes are no attributes as we write them.
    """
    if not body:
        return ()
    if body[: len(_HEADER)] != _HEADER or len(body) == len(_HEADER):
        raise DamagedImage("attributes with a header that we do not write")
    found = []
    at = len(_HEADER)
    while at < len(body):
        name_bytes, index, value_bytes = disk.XATTR_ENTRY.unpack_from(body, at)
        name_end = at + disk.XATTR_ENTRY.size + name_bytes
        end = name_end + value_bytes
        prefix = disk.XATTR_PREFIXES.get(index)
        name = body[at + disk.XATTR_ENTRY.size : name_end]
        if prefix is None or end > len(body) or b"\0" in name:
            raise DamagedImage("an attribute that we do not write")
        found.append((prefix + name, body[name_end:end]))
        at = disk.round_up(end, 4)
    if len({name for name, _ in found}) != len(found):
        raise DamagedImage("an attribute is there twice")
    return tuple(found)


def _place(name: bytes) -> tuple[int, bytes] | None:
    """Number of the prefix and the rest of the name; ``None`` where the format has none."""
    for index, prefix in disk.XATTR_PREFIXES.items():
        if index in _ACLS:
            if name == prefix:
                return index, b""
        elif name.startswith(prefix) and name != prefix:
            return index, name[len(prefix) :]
    return None


def _is_kept(index: int, rest: bytes, value: bytes, kind: int) -> bool:
    if index in _ACLS:
        fits = kind == stat.S_IFDIR if index == _DEFAULT_ACL else kind != stat.S_IFLNK
        return fits and values.is_acl(value)
    if index == _SECURITY:
        return rest != _CAPABILITY or values.is_capability(value)
    return not rest.startswith(_OVERLAY) and (
        index != _USER or kind in (stat.S_IFREG, stat.S_IFDIR)
    )


def _entry(index: int, name: bytes, value: bytes) -> bytes:
    if len(value) > disk.MAX_VALUE_BYTES:
        shown = rules.shown(disk.XATTR_PREFIXES[index] + name)
        raise CannotRender(f"extended attribute {shown} has {len(value)} bytes")
    entry = disk.XATTR_ENTRY.pack(len(name), index, len(value)) + name + value
    return entry + bytes(-len(entry) & 3)


def _own(name: bytes, value: bytes) -> bytes:
    return _entry(_TRUSTED, name.removeprefix(disk.XATTR_PREFIXES[_TRUSTED]), value)


_BODY_ELSEWHERE: Final = _own(METACOPY, b"")
_REDIRECT_BYTES: Final = len(redirect(bytes(32)))
_REDIRECT_START: Final = _own(REDIRECT, bytes(_REDIRECT_BYTES))[:-_REDIRECT_BYTES]
_BODY_START: Final = _BODY_ELSEWHERE + _REDIRECT_START
BODY_ENTRIES: Final = len(_BODY_START) + _REDIRECT_BYTES
"""Bytes of the entries that :func:`body_entries` gives."""


def body_entries(digest: bytes) -> bytes:
    """The two entries that tell overlayfs where a file's body is."""
    return _BODY_START + redirect(digest)
