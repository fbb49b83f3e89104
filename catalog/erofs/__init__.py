"""The metadata image: a root's tree as an EROFS image that holds no data.

:func:`render` writes one from a catalog. The kernel mounts it below overlayfs, with data-only
layers that hold the bodies: every regular file that is not empty carries its size, a hole in
place of data, and the two attributes that tell overlayfs to look for its body as
``/<aa>/<sha256>`` there. All else is in the image: names, types, owners, modes, times, links,
targets, devices, attributes. :func:`walk` reads one back, :func:`check_superblock` looks at one
before it is mounted.

Weighed on the root of a Python image with numpy, pandas and scikit-learn: 19 915 inodes, of
which 16 605 have a body; 4.16 MB, of which bodies' inodes are 77 % and names 15 %; 1.06 MB as
zstd -3, of which redirects are 0.71 MB (digests of 0.52 MB cannot become smaller).

- *Extended inodes (64 bytes) only.* Compact ones (32 bytes) would save 13 %, and 1.3 % when
  compressed, and have no nanoseconds, no owners above 65535, and no times of their own in
  older kernels.
- *Attributes inline only.* A file with a body needs 188 bytes, and inodes begin at multiples of
  32: sharing the one attribute that is always the same would leave it 172, and so 192 again.
- *Names of attributes written out.* Prefixes (``XATTR_PREFIXES``) would save 13 %, and 0.5 %
  when compressed, and the erofs-utils of Debian 12 cannot check them.
- *Blocks of 4096 bytes.* Kernels with larger pages take them too; none with pages of 4 KiB
  takes larger blocks, and smaller ones let more directories cross a block.
- *One chunk index a file.* Chunks have the largest size there is (8 TiB).

What cannot be said in the format: attributes that no file system would take are left out
(:mod:`catalog.erofs.attributes` lists them); the owner 2**32 - 1 becomes ``NOBODY``; attribute
values of 65 536 bytes, more than 262 136 bytes of attributes in all and files above 256 TiB are
refused with :class:`CannotRender`. Times are kept whole: the range of a catalog fits.
"""

from __future__ import annotations

from catalog.erofs.errors import CannotRender, DamagedImage
from catalog.erofs.inodes import ImageNode
from catalog.erofs.lookup import locate
from catalog.erofs.read import check_superblock, walk
from catalog.erofs.write import NOBODY, MetadataImage, render

__all__ = [
    "NOBODY",
    "CannotRender",
    "DamagedImage",
    "ImageNode",
    "MetadataImage",
    "check_superblock",
    "locate",
    "render",
    "walk",
]
