"""How the layers of a native root are put together, as text for overlayfs. Pure.

``DIRECT``: whoever mounts a container puts metadata, cache and FUSE below it in one overlay. The
kernel obeys redirects into data-only layers by itself (6.16 and later).

``NESTED``: it obeys them only with ``metacopy=on``, which would also make it copy up nothing but
attributes, into upper directories that then mean nothing without this very root. So metadata,
cache and FUSE make one read-only overlay with that option, and a container's overlay has this
one as its plain lower directory.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Layers(enum.StrEnum):
    """How data-only layers are used on this kernel."""

    DIRECT = "direct"
    NESTED = "nested"


def lowerdir(metadata: Path, *data: Path) -> str:
    """A metadata image and the data-only layers below it."""
    return "::".join(str(path) for path in (metadata, *data))


def read_only_options(lower: str, layers: Layers, *, xino: bool) -> list[str]:
    """Options of the read-only overlay that shows a whole root as one directory.

    Files and directories have the same ``st_dev`` with ``xino=on``. A nested one must not use
    the high bits of inode numbers: the container's overlay above needs them for the same end.

    Args:
        lower: from :func:`lowerdir`.
        layers: how they are used.
        xino: whether this kernel's overlayfs knows the option.
    """
    options = [f"lowerdir={lower}"]
    if layers is Layers.NESTED:
        options.append("metacopy=on")
    if xino:
        options.append("xino=off" if layers is Layers.NESTED else "xino=on")
    return options
