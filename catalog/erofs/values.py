"""Values of attributes that the kernel itself reads: whether it would take them.

The kernel checks these when they are set, and cannot read others: an attribute that is listed
and cannot be read makes a file that overlayfs cannot copy up.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

_NO_ID: Final = 0xFFFFFFFF

# struct vfs_ns_cap_data of linux/capability.h: magic_etc, (permitted, inheritable) twice; rootid.
_CAPABILITY: Final = Struct("<I 16x")
_CAPABILITY_OF_NAMESPACE: Final = Struct("<I 16x I")
_REVISION_MASK: Final = 0xFF000000
_REVISION_2: Final = 0x02000000
_REVISION_3: Final = 0x03000000

# linux/posix_acl_xattr.h: a version, then tag, permissions and id of each entry.
_ACL_VERSION: Final = (2).to_bytes(4, "little")
_ACL_ENTRY: Final = Struct("<HHI")
_ACL_TAGS: Final = {1: "o", 2: "U", 4: "g", 8: "G", 0x10: "m", 0x20: "x"}
# posix_acl_valid() of fs/posix_acl.c: owner, users, group, groups, mask, others; a mask where
# there are users or groups.
_ACL_ORDER: Final = re.compile(r"o(gm?|U*gG*m)x")
_MAX_PERMISSIONS: Final = 7


def is_capability(value: bytes) -> bool:
    """Whether ``security.capability`` may have this value."""
    if len(value) == _CAPABILITY.size:
        (magic,) = _CAPABILITY.unpack(value)
        return bool(magic & _REVISION_MASK == _REVISION_2)
    if len(value) == _CAPABILITY_OF_NAMESPACE.size:
        magic, root = _CAPABILITY_OF_NAMESPACE.unpack(value)
        return bool(magic & _REVISION_MASK == _REVISION_3 and root != _NO_ID)
    return False


def is_acl(value: bytes) -> bool:
    """Whether a POSIX ACL may have this value."""
    version, entries = value[: len(_ACL_VERSION)], value[len(_ACL_VERSION) :]
    if version != _ACL_VERSION or len(entries) % _ACL_ENTRY.size:
        return False
    found = list(_ACL_ENTRY.iter_unpack(entries))
    order = "".join(_ACL_TAGS.get(tag, "?") for tag, _, _ in found)
    return bool(_ACL_ORDER.fullmatch(order)) and all(
        permissions <= _MAX_PERMISSIONS and (number != _NO_ID or _ACL_TAGS[tag] not in "UG")
        for tag, permissions, number in found
    )
