"""Where things are in the node cache, and what they count against its quota. Pure.

::

    contents/<aa>/<sha256>   whole verified bodies, mode 0444
    partial/<sha256>         large contents that are partly here, named by their layout
    catalogs/<sha256>        verified SQLite files
    metadata/<sha256>        metadata images
    boots/<sha256>           boot records
    tmp/<owner>/             what one process is writing; locked (flock) while it lives
    state.sqlite             sizes, uses, extents of partial contents
    lock                     held while a process opens the cache
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 4096
"""Files take whole blocks of this size, here and on most file systems."""


class Kind(enum.StrEnum):
    """The kinds of cached files; the value is what ``files.kind`` holds."""

    CONTENT = "content"
    PARTIAL = "partial"
    CATALOG = "catalog"
    METADATA = "metadata"
    BOOT = "boot"


_FOLDERS: Final = {
    Kind.PARTIAL: "partial",
    Kind.CATALOG: "catalogs",
    Kind.METADATA: "metadata",
    Kind.BOOT: "boots",
}


@dataclass(frozen=True, slots=True)
class Places:
    """Names below one cache directory."""

    root: Path

    @property
    def contents(self) -> Path:
        """The folder that may be a data-only lowerdir."""
        return self.root / "contents"

    @property
    def temporary(self) -> Path:
        """Parent of every process' own folder."""
        return self.root / "tmp"

    @property
    def state(self) -> Path:
        """The database."""
        return self.root / "state.sqlite"

    @property
    def lock(self) -> Path:
        """The lock file of those who open the cache."""
        return self.root / "lock"

    def file(self, kind: Kind, digest: bytes) -> Path:
        """Final name of a cached file."""
        return Path(self.name(kind, digest))

    def name(self, kind: Kind, digest: bytes) -> str:
        """The same as text, a tenth of the work: a bundle has a hundred files and more."""
        name = digest.hex()
        if kind is Kind.CONTENT:
            return f"{self.root}/contents/{name[:2]}/{name}"
        return f"{self.root}/{_FOLDERS[kind]}/{name}"

    def folders(self) -> list[Path]:
        """Every folder that a cache has from its beginning."""
        fans = [self.contents / f"{high:02x}" for high in range(256)]
        flat = [self.root / name for name in _FOLDERS.values()]
        return [self.contents, *flat, self.temporary, *fans]


def counted(size: int) -> int:
    """Bytes that ``size`` bytes of a file count against the quota."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def to_free(used: int, needed: int, max_bytes: int, low_water: float) -> int:
    """Bytes to evict before ``needed`` bytes may be added to ``used``.

    Nothing below the quota; at the quota, down to its ``low_water`` part, so that evictions
    come in batches.
    """
    if used + needed <= max_bytes:
        return 0
    return used + needed - max(int(max_bytes * low_water), min(needed, max_bytes))
