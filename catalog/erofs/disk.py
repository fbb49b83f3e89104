"""The structures of EROFS that our images use, as they lie on the disk; all little-endian.

Sources: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of Linux. Field names are
the kernel's. Only what every kernel from 6.5 on reads is used.
"""

from __future__ import annotations

import stat
from struct import Struct
from typing import Final

BLOCK_BITS: Final = 12
BLOCK: Final = 1 << BLOCK_BITS
"""Block size. Kernels before 6.4 know no other, and none takes blocks larger than a page."""

SLOT_BITS: Final = 5
SLOT: Final = 1 << SLOT_BITS
"""Inodes begin at multiples of this; ``nid``, the number of an inode, is its offset / 32."""

# -- struct erofs_super_block, 128 bytes at byte 1024

SUPER_OFFSET: Final = 1024
SUPER_MAGIC: Final = 0xE0F5E1E2
SUPER: Final = Struct(
    "<"
    "I"  # magic
    "I"  # checksum: crc32c, not used (FEATURE_COMPAT_SB_CHKSUM is off: our digest covers it)
    "I"  # feature_compat
    "B"  # blkszbits
    "B"  # sb_extslots
    "H"  # root_nid
    "Q"  # inos
    "Q"  # build_time: of compact inodes, which we do not write
    "I"  # build_time_nsec
    "I"  # blocks: of the whole image
    "I"  # meta_blkaddr: where nid 0 is
    "I"  # xattr_blkaddr: of shared attributes, which we do not write
    "16s"  # uuid
    "16s"  # volume_name
    "I"  # feature_incompat
    "44s"  # compression, devices, prefixes of attributes: zero
)
UUID_OFFSET: Final = SUPER_OFFSET + 48
UUID_BYTES: Final = 16
FEATURE_COMPAT_MTIME: Final = 0x2
FEATURE_INCOMPAT_CHUNKED_FILE: Final = 0x4
FIRST_INODE: Final = SUPER_OFFSET + SUPER.size
"""Where inodes begin: the root directory's first, because ``root_nid`` has only 16 bits."""

# -- struct erofs_inode_extended, 64 bytes

INODE: Final = Struct(
    "<"
    "H"  # i_format: bit 0 extended, bits 1-3 data layout
    "H"  # i_xattr_icount: 0, or 1 + (bytes of attributes - 12) / 4
    "H"  # i_mode
    "H"  # i_reserved
    "Q"  # i_size
    "I"  # i_u: first block, device number, or chunk format
    "I"  # i_ino: for 32-bit user space and dump.erofs
    "I"  # i_uid
    "I"  # i_gid
    "q"  # i_mtime: seconds, signed in the kernel's time64_t
    "I"  # i_mtime_nsec
    "I"  # i_nlink
    "16s"  # i_reserved2
)
EXTENDED: Final = 1
FLAT_PLAIN: Final = EXTENDED | 0 << 1
"""``i_format``: whole blocks from ``i_u`` on, or no data."""

FLAT_INLINE: Final = EXTENDED | 2 << 1
"""``i_format``: the same, and the last piece behind the inode's attributes, inside one block."""

CHUNK_BASED: Final = EXTENDED | 4 << 1
"""``i_format``: behind the attributes one 4-byte block address for each chunk."""

CHUNK_FORMAT: Final = 31
"""``i_u`` of a chunk-based inode: chunks of the largest size, ``BLOCK << 31``."""

CHUNK_BITS: Final = BLOCK_BITS + CHUNK_FORMAT
HOLE: Final = b"\xff\xff\xff\xff"
"""The block address of a chunk without data (EROFS_NULL_ADDR)."""

# -- struct erofs_xattr_ibody_header, 12 bytes, then struct erofs_xattr_entry, 4 bytes each,
# -- followed by name and value and zeros up to a multiple of 4

XATTR_HEADER: Final = Struct("<I B 7s")  # h_name_filter, h_shared_count, h_reserved2
XATTR_ENTRY: Final = Struct("<B B H")  # e_name_len, e_name_index, e_value_size
MAX_VALUE_BYTES: Final = (1 << 16) - 1
MAX_XATTR_BYTES: Final = XATTR_HEADER.size + 4 * ((1 << 16) - 2)
"""Most that ``i_xattr_icount`` can count."""

XATTR_PREFIXES: Final = {
    1: b"user.",
    2: b"system.posix_acl_access",
    3: b"system.posix_acl_default",
    4: b"trusted.",
    6: b"security.",
}
"""``e_name_index``: the part of the name that is not written out."""

# -- struct erofs_dirent, 12 bytes; names follow the last one of a block

DIRENT: Final = Struct("<Q H B B")  # nid, nameoff, file_type, reserved
FILE_TYPES: Final = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
"""``file_type`` by ``S_IFMT`` of the mode."""

DIRECTORY_TYPE: Final = FILE_TYPES[stat.S_IFDIR]
SYMLINK_TYPE: Final = FILE_TYPES[stat.S_IFLNK]

MAX_IMAGE_BYTES: Final = 4 << 30
"""Largest image that is written or read: some twenty million entries.

One set of attributes of a catalog may be that of every inode, so a small catalog could ask for
a far larger image.
"""


def superblock(root: int, inodes: int, size: int) -> bytes:
    """The superblock of an image, with a UUID of zeros.

    Args:
        root: nid of the root directory.
        inodes: how many there are.
        size: bytes of the image, a multiple of :data:`BLOCK`.
    """
    return SUPER.pack(
        *(SUPER_MAGIC, 0, FEATURE_COMPAT_MTIME, BLOCK_BITS, 0, root, inodes, 0, 0),
        *(size >> BLOCK_BITS, 0, 0, b"", b"", FEATURE_INCOMPAT_CHUNKED_FILE, b""),
    )


def round_up(size: int, unit: int) -> int:
    """The next multiple of ``unit``, a power of two."""
    return (size + unit - 1) & -unit


def encode_device(major: int, minor: int) -> int:
    """A device number as the kernel's ``new_encode_dev``: 12 bits major, 20 bits minor."""
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def decode_device(encoded: int) -> tuple[int, int]:
    """The inverse of :func:`encode_device`."""
    return (encoded & 0xFFF00) >> 8, (encoded & 0xFF) | (encoded >> 12 & 0xFFF00)
