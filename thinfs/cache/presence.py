"""Which objects would bring something that this disk does not have yet."""

from __future__ import annotations

import os
from bisect import bisect_left
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from thinfs.cache.objects import catalog_errors
from thinfs.cache.places import Kind
from thinfs.cache.plan import layout_digest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from catalog.model import ContentRef
    from thinfs.cache.directory import NodeCache
    from thinfs.cache.disk import Disk
    from thinfs.cache.root import RootContents


@dataclass(frozen=True, slots=True)
class _Part:
    """What an object has of one content: all of it, or one extent of a layout."""

    kind: Kind
    digest: bytes
    layout: bytes = b""
    extent: int = 0


class Presence:
    """Knows what is on this disk.

    Args:
        cache: what is kept.
        disk: its thread.
    """

    def __init__(self, cache: NodeCache, disk: Disk) -> None:
        self._cache = cache
        self._disk = disk

    async def lacking(self, root: RootContents, digests: Sequence[bytes]) -> list[bytes]:
        """Those of the objects that would bring something new for a root, in the same order.

        Raises:
            FormatError: the root's catalog is damaged.
        """
        if not self._cache.writable:
            return list(digests)
        layouts: dict[int, tuple[bytes, list[int]]] = {}
        with catalog_errors():
            parts = {digest: list(_parts(root, digest, layouts)) for digest in digests}
        lacking = await self._disk.attempt(partial(self._lacking, parts))
        return list(digests) if lacking is None else lacking

    def _lacking(self, parts: dict[bytes, list[_Part]]) -> list[bytes]:
        """In the disk's thread."""
        with self._cache.state.transaction() as db:
            return [
                digest
                for digest, inside in parts.items()
                if not all(self._has(db, part) for part in inside)
            ]

    def _has(self, db: sqlite3.Connection, part: _Part) -> bool:
        if os.path.lexists(self._cache.places.file(part.kind, part.digest)):
            return True
        if not part.layout:
            return False
        row = db.execute(
            "SELECT 1 FROM extents WHERE layout = ? AND extent = ?", (part.layout, part.extent)
        )
        return row.fetchone() is not None


def _parts(
    root: RootContents, digest: bytes, layouts: dict[int, tuple[bytes, list[int]]]
) -> Iterator[_Part]:
    for ref in root.reader.contents_in(digest):
        if ref.digest == root.metadata:
            yield _Part(Kind.METADATA, ref.digest, *_extent(root, ref, layouts))
        elif ref.extent.length == ref.size:
            yield _Part(Kind.CONTENT, ref.digest)
        else:
            yield _Part(Kind.CONTENT, ref.digest, *_extent(root, ref, layouts))


def _extent(
    root: RootContents, ref: ContentRef, layouts: dict[int, tuple[bytes, list[int]]]
) -> tuple[bytes, int]:
    """A content's layout, and the position of an extent in it."""
    known = layouts.get(ref.content_id)
    if known is None:
        content = root.reader.content(ref.content_id)
        known = (layout_digest(content), [extent.offset for extent in content.extents])
        layouts[ref.content_id] = known
    return known[0], bisect_left(known[1], ref.extent.offset)
