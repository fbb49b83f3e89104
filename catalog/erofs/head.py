"""The first bytes of an image, looked at before the kernel is asked to mount it. Pure."""

from __future__ import annotations

from typing import Final

from catalog.erofs import disk
from catalog.erofs.errors import DamagedImage

HEAD_BYTES: Final = disk.SUPER_OFFSET + disk.SUPER.size
"""How many of them :func:`check_head` looks at."""


def check_head(head: bytes, size: int) -> tuple[int, int]:
    """See whether bytes are the beginning of an image as we write it, of ``size`` bytes.

    A publisher may have named bytes that are no image, or one with features that are none of
    ours: verified, and yet nothing for the kernel.

    Returns:
        The root's nid, and the number of inodes that it states.

    Raises:
        DamagedImage: it is none.
    """
    raw = head[disk.SUPER_OFFSET : HEAD_BYTES]
    if len(raw) < disk.SUPER.size or not raw.startswith(disk.SUPER_MAGIC.to_bytes(4, "little")):
        raise DamagedImage("not an EROFS image")
    if size > disk.MAX_IMAGE_BYTES:
        raise DamagedImage(f"{size} bytes, too many for a metadata image")
    root, inodes = disk.SUPER.unpack(raw)[5:7]
    at = disk.UUID_OFFSET - disk.SUPER_OFFSET
    bare = raw[:at] + bytes(disk.UUID_BYTES) + raw[at + disk.UUID_BYTES :]
    if size % disk.BLOCK or bare != disk.superblock(root, inodes, size):
        raise DamagedImage("an EROFS image that is cut off, or no metadata image of ours")
    return root, inodes
