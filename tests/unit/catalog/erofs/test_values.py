"""Which ACLs and capabilities the kernel takes."""

from __future__ import annotations

import struct

import pytest

from catalog.erofs.values import is_acl, is_capability

NO_ID = 0xFFFFFFFF
OWNER, GROUP, OTHERS = (1, 6, NO_ID), (4, 4, NO_ID), (0x20, 4, NO_ID)
USER, NAMED_GROUP, MASK = (2, 7, 1000), (8, 5, 50), (0x10, 7, NO_ID)


def acl(*entries: tuple[int, int, int], version: int = 2) -> bytes:
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.mark.parametrize(
    "entries",
    [
        (OWNER, GROUP, OTHERS),
        (OWNER, GROUP, MASK, OTHERS),
        (OWNER, USER, GROUP, MASK, OTHERS),
        (OWNER, USER, USER, GROUP, NAMED_GROUP, MASK, OTHERS),
        ((1, 6, 0), (4, 4, 0), (0x20, 4, 0)),
    ],
)
def test_acls_in_the_kernels_order_are_taken(entries: tuple[tuple[int, int, int], ...]) -> None:
    assert is_acl(acl(*entries))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\2\0",
        acl(),
        acl(OWNER, GROUP, OTHERS, version=1),
        acl(OWNER, GROUP, OTHERS) + b"\0",
        acl(OWNER, GROUP),
        acl(GROUP, OWNER, OTHERS),
        acl(OWNER, USER, GROUP, OTHERS),
        acl(OWNER, USER, GROUP, MASK, MASK, OTHERS),
        acl(OWNER, (2, 7, NO_ID), GROUP, MASK, OTHERS),
        acl((1, 8, NO_ID), GROUP, OTHERS),
        acl(OWNER, (3, 4, 0), GROUP, OTHERS),
    ],
)
def test_other_acls_are_not(value: bytes) -> None:
    assert not is_acl(value)


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (struct.pack("<IIIII", 0x02000001, 1, 0, 0, 0), True),
        (struct.pack("<IIIIII", 0x03000000, 1, 0, 0, 0, 1000), True),
        (struct.pack("<IIIIII", 0x03000000, 1, 0, 0, 0, NO_ID), False),
        (struct.pack("<III", 0x01000000, 1, 0), False),
        (struct.pack("<IIIII", 0x03000001, 1, 0, 0, 0), False),
        (struct.pack("<IIIIII", 0x02000001, 1, 0, 0, 0, 0), False),
        (b"", False),
    ],
)
def test_capabilities_of_revisions_2_and_3_are_taken(value: bytes, taken: bool) -> None:
    assert is_capability(value) is taken
