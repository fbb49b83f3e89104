"""Extended attributes behind an inode."""

from __future__ import annotations

import stat

import pytest

from catalog.erofs import attributes, disk
from catalog.erofs.errors import CannotRender, DamagedImage
from tests.support.generated_trees import ACL, CAPABILITY

FILE = stat.S_IFREG
EVERY_TYPE = sorted(disk.FILE_TYPES)


def kept(name: bytes, value: bytes, mode: int) -> bool:
    entries = attributes.encode(((name, value),), mode)
    assert attributes.decode(attributes.with_header(entries)) in ((), ((name, value),))
    return bool(entries)


def test_attributes_of_every_space_come_back_as_they_were() -> None:
    xattrs = (
        (b"security.capability", CAPABILITY),
        (b"system.posix_acl_access", ACL),
        (b"trusted.a", b""),
        (b"user." + b"n" * 250, b"v" * disk.MAX_VALUE_BYTES),
    )
    body = attributes.with_header(attributes.encode(xattrs, FILE))
    assert attributes.decode(body) == xattrs
    assert len(body) == 12 + 4 * (attributes.count(len(body)) - 1)


@pytest.mark.parametrize(
    "name",
    [
        *(b"trusted.overlay.opaque", b"user.overlay.redirect", b"trusted.overlay.overlay.x"),
        *(b"user.", b"trusted.", b"security.", b"system.nfs4_acl", b"btrfs.compression"),
        *(b"lustre.lov", b"system.posix_acl_access.x", b"nothing", b"system.posix_acl"),
    ],
)
def test_what_no_file_system_would_take_is_left_out(name: bytes) -> None:
    assert not kept(name, b"v", FILE)


@pytest.mark.parametrize("kind", EVERY_TYPE)
def test_what_a_type_of_file_cannot_have_is_left_out(kind: int) -> None:
    ordinary = kind in (stat.S_IFREG, stat.S_IFDIR)
    assert kept(b"user.a", b"v", kind) is ordinary
    assert kept(b"trusted.a", b"v", kind)
    assert kept(b"security.a", b"v", kind)
    assert kept(b"system.posix_acl_access", ACL, kind) is (kind != stat.S_IFLNK)
    assert kept(b"system.posix_acl_default", ACL, kind) is (kind == stat.S_IFDIR)


def test_values_that_the_kernel_could_not_read_are_left_out() -> None:
    assert not kept(b"system.posix_acl_access", ACL[:-8], FILE)
    assert not kept(b"security.capability", CAPABILITY[:-4], FILE)


def test_a_value_of_64_kib_is_refused() -> None:
    with pytest.raises(CannotRender, match="65536 bytes"):
        attributes.encode(((b"user.a", bytes(65536)),), FILE)


def test_more_than_an_inode_can_have_is_refused() -> None:
    assert attributes.body_size(disk.MAX_XATTR_BYTES - 12) == disk.MAX_XATTR_BYTES
    assert attributes.count(disk.MAX_XATTR_BYTES) == 65535
    with pytest.raises(CannotRender):
        attributes.body_size(disk.MAX_XATTR_BYTES - 8)


def test_a_body_is_where_overlayfs_will_look_for_it() -> None:
    digest = bytes(range(32))
    body = attributes.with_header(attributes.body_entries(digest))
    assert attributes.decode(body) == (
        (b"trusted.overlay.metacopy", b""),
        (b"trusted.overlay.redirect", b"/00/" + digest.hex().encode()),
    )
    assert attributes.redirected(attributes.redirect(digest)) == digest


@pytest.mark.parametrize(
    "value", [b"", b"/", b"/00/../../etc", b"/ff/" + b"00" * 32, b"/00/" + b"zz" * 32, b"\xff" * 68]
)
def test_a_redirect_to_elsewhere_is_damage(value: bytes) -> None:
    with pytest.raises(DamagedImage):
        attributes.redirected(value)


@pytest.mark.parametrize(
    "body",
    [
        disk.XATTR_HEADER.pack(0, 0, b""),
        disk.XATTR_HEADER.pack(0, 1, b"") + bytes(4),
        disk.XATTR_HEADER.pack(0, 0, b"") + disk.XATTR_ENTRY.pack(1, 9, 0) + b"a\0\0\0",
        disk.XATTR_HEADER.pack(0, 0, b"") + disk.XATTR_ENTRY.pack(1, 1, 9) + b"a\0\0\0",
        disk.XATTR_HEADER.pack(0, 0, b"") + 2 * (disk.XATTR_ENTRY.pack(1, 1, 0) + b"a\0\0\0"),
    ],
)
def test_attributes_that_nobody_wrote_are_damage(body: bytes) -> None:
    with pytest.raises(DamagedImage):
        attributes.decode(body)
