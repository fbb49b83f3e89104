"""How the layers of a native root are put together, as text for overlayfs.

``DIRECT``: whoever mounts a container puts metadata, cache and FUSE below it in one overlay. The
kernel obeys redirects into data-only layers by itself (6.16 and later).

``NESTED``: it obeys them only with ``metacopy=on``, which would also make it copy up nothing but
attributes, into upper directories that then mean nothing without this very root. So metadata,
cache and FUSE make one read-only overlay with that option, and a container's overlay has this
one as its plain lower directory.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Final

XINO: Final = Path("/sys/module/overlay/parameters/xino_auto")


class Layers(enum.StrEnum):
    """How data-only layers are used on this kernel."""

    DIRECT = "direct"
    NESTED = "nested"


def lowerdir(metadata: Path, *data: Path) -> str:
    """A metadata image and the data-only layers below it."""
    return "::".join(str(path) for path in (metadata, *data))


def read_only_options(lower: str, layers: Layers) -> list[str]:
    """Options of a read-only overlay that shows a whole root as one directory.

    Args:
        lower: from :func:`lowerdir`.
        layers: how they are used.
    """
    nested = layers is Layers.NESTED
    return [f"lowerdir={lower}", *(["metacopy=on"] if nested else [])]


def xino(value: str, parameter: Path = XINO) -> list[str]:
    """The option ``xino=`` where overlayfs, which must be loaded, knows it.

    With ``on``, files have the ``st_dev`` of their directories. An overlay that is to be a layer
    of another one must be ``off``: it would use up the bits of inode numbers that the upper one
    needs for the same end.
    """
    return [f"xino={value}"] if parameter.exists() else []
