"""What can be wrong with a metadata image.

CatalogError
    CannotRender    a tree that no image of ours can hold; the node serves it another way
    DamagedImage    a file that is not an image as we write it, or one that contradicts itself
"""

from __future__ import annotations

from catalog.errors import CatalogError


class CannotRender(CatalogError):  # noqa: N818 - reads as what it is
    """A sound tree with something in it that the format has no place for; the message says what."""


class DamagedImage(CatalogError):  # noqa: N818 - reads as what it is
    """A file that is no metadata image, or one that contradicts itself."""
