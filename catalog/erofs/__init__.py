"""The metadata image."""

from __future__ import annotations

from catalog.erofs.errors import CannotRender, DamagedImage
from catalog.erofs.write import MetadataImage, render

__all__ = ["CannotRender", "DamagedImage", "MetadataImage", "render"]
