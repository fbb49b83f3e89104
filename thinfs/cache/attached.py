"""Whether a content belongs to an attached root, as eviction wants to know.

The kernel reads contents of native roots without telling anybody: overlayfs opens them without
touching access times. So eviction cannot see which of them are in use, and takes for used what
belongs to a root that somebody has attached: its catalog is pinned, by this process or another.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final, Self

from catalog.errors import CatalogError
from catalog.reader import CatalogReader
from thinfs.cache.places import Kind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from thinfs.cache.places import Places

log = logging.getLogger(__name__)

MAX_LOOKS: Final = 50_000
"""Most questions to catalogs in one eviction, some 15 µs each: others wait for its transaction."""


class AttachedRoots:
    """The roots whose catalogs are pinned; a context manager that closes them.

    Args:
        readers: of their catalogs; closed at the end.
        max_looks: how many questions are asked; then no content belongs to any root.
    """

    def __init__(self, readers: Sequence[CatalogReader], max_looks: int = MAX_LOOKS) -> None:
        self._readers = readers
        self._looks = max_looks
        self._spared: set[bytes] = set()

    @classmethod
    def of(cls, db: sqlite3.Connection, places: Places) -> Self:
        """Open all pinned catalogs; one that cannot be read speaks for nothing."""
        pins = "SELECT DISTINCT digest FROM pins WHERE kind = ? ORDER BY digest"
        readers = []
        for (digest,) in db.execute(pins, (Kind.CATALOG,)).fetchall():
            try:
                readers.append(CatalogReader.open(places.file(Kind.CATALOG, digest)))
            except CatalogError as error:
                log.debug("not asked about its contents: %s", error)
        return cls(readers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.close()

    def spares(self, kind: Kind, digest: bytes) -> bool:
        """Whether a file whose turn to go has come may stay; each is spared once."""
        if kind is not Kind.CONTENT or digest in self._spared or not self._has(digest):
            return False
        self._spared.add(digest)
        return True

    def _has(self, digest: bytes) -> bool:
        for reader in self._readers:
            if self._looks <= 0:
                break
            self._looks -= 1
            with contextlib.suppress(CatalogError):
                if reader.content_id(digest) is not None:
                    return True
        return False
