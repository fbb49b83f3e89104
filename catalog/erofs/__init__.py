"""The metadata image: a root's tree as an EROFS image that holds no data.

:func:`render` writes one from a catalog. The kernel mounts it below overlayfs, with data-only
layers that hold the bodies: every regular file that is not empty carries its size, a hole in
place of data, and the two attributes that tell overlayfs to look for its body as
``/<aa>/<sha256>`` there. All else is in the image: names, types, owners, modes, times, links,
targets, devices, attributes. :func:`walk` reads one back, :func:`check_superblock` looks at one
before it is mounted.

Weighed on the root of a Python image with numpy, pandas and scikit-learn (19 915 inodes,
4.16 MB; 1.27 MB as zstd -3, of which 0.56 MB are digests that no compression makes smaller):

- *Extended inodes (64 bytes) only.* Compact ones (32 bytes) have no nanoseconds, no owners
  above 65535, and a time of their own only in newer kernels.
- *Attributes inline only.* A file with a body needs 188 bytes, and inodes begin at multiples of
  32: sharing the one attribute that is always the same would leave it 172, and so 192 again.
- *Names of attributes written out.* Prefixes (``XATTR_PREFIXES``) would save 32 bytes a file
  before and next to nothing after compression, and erofs-utils before 1.6 could not check it.
- *Blocks of 4096 bytes.* Smaller ones make more directories cross a block; larger ones no
  kernel with 4 KiB pages takes.
- *One chunk index a file.* Chunks have the largest size there is (8 TiB).

What cannot be said in the format: attributes that no file system would take are left out
(:mod:`catalog.erofs.attributes` lists them); the owner 2**32 - 1 becomes ``NOBODY``; attribute
values of 65 536 bytes, 256 KiB of attributes in all and files above 256 TiB are refused with
:class:`CannotRender`. Times are kept whole: the range of a catalog fits.
"""

from __future__ import annotations

from catalog.erofs.errors import CannotRender, DamagedImage
from catalog.erofs.inodes import ImageNode
from catalog.erofs.read import check_superblock, walk
from catalog.erofs.write import NOBODY, MetadataImage, render

__all__ = [
    "NOBODY",
    "CannotRender",
    "DamagedImage",
    "ImageNode",
    "MetadataImage",
    "check_superblock",
    "render",
    "walk",
]
