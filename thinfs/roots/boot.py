"""What a boot record says of contents, asked as a catalog is. Pure.

Contents have numbers here as they have in a catalog: the metadata image is 0, the others follow
in the record's order.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from typing import TYPE_CHECKING

from catalog.model import Content, ContentRef, Extent, ObjectRef

if TYPE_CHECKING:
    from thinfs.store.boot import BootContent, BootRecord


class BootContents:
    """The contents of a boot record.

    Args:
        record: has been parsed, so that it does not contradict itself.

    Attributes:
        order: objects that a start needs, as the record orders them.
        ordered: digests of the same.
    """

    def __init__(self, record: BootRecord) -> None:
        self._contents = (record.metadata, *record.contents)
        self._objects = tuple(
            ObjectRef(bytes.fromhex(o.digest), o.size, o.stored_size) for o in record.objects
        )
        self._by_digest = {ref.digest: ref for ref in self._objects}
        self._numbers = {
            bytes.fromhex(content.digest): number for number, content in enumerate(self._contents)
        }
        self.order = tuple(self._objects[index] for index in dict.fromkeys(record.order))
        self.ordered = frozenset(ref.digest for ref in self.order)

    @property
    def metadata(self) -> Content:
        """The metadata image."""
        return self.content(0)

    def metadata_objects(self) -> tuple[ObjectRef, ...]:
        """Objects in which the metadata image lies, each once, in its order."""
        indexes = dict.fromkeys(extent.object for extent in self._contents[0].extents)
        return tuple(self._objects[index] for index in indexes)

    @property
    def names_contents(self) -> bool:
        """Whether it knows contents of files, too: whether it was made with a profile."""
        return len(self._contents) > 1

    def number(self, digest: bytes) -> int | None:
        """The number of a content, or ``None``."""
        return self._numbers.get(digest)

    def content(self, number: int) -> Content:
        """A content by its number."""
        found = self._contents[number]
        extents = (self._extent(found, index) for index in range(len(found.extents)))
        return Content(bytes.fromhex(found.digest), found.size, tuple(extents))

    def size(self, number: int) -> int:
        """Bytes of a content."""
        return self._contents[number].size

    def object(self, digest: bytes) -> ObjectRef | None:
        """One object, when the record names it."""
        return self._by_digest.get(digest)

    def contents_in(self, object_digest: bytes) -> list[ContentRef]:
        """The contents that lie in an object, in whole or in part."""
        refs = []
        for number, index in self._inside.get(object_digest, ()):
            content = self._contents[number]
            extent = self._extent(content, index)
            digest = bytes.fromhex(content.digest)
            refs.append(ContentRef(number, digest, content.size, extent))
        return refs

    def digests_from(self, first: bytes, limit: int) -> list[bytes]:
        """Digests of contents from ``first`` on, ascending."""
        start = bisect_left(self._sorted, first)
        return self._sorted[start : start + limit]

    @cached_property
    def _sorted(self) -> list[bytes]:
        return sorted(self._numbers)

    @cached_property
    def _inside(self) -> dict[bytes, list[tuple[int, int]]]:
        """(content, extent) by the object that they lie in."""
        inside: dict[bytes, list[tuple[int, int]]] = {}
        for number, content in enumerate(self._contents):
            for index, extent in enumerate(content.extents):
                digest = self._objects[extent.object].digest
                inside.setdefault(digest, []).append((number, index))
        return inside

    def _extent(self, content: BootContent, index: int) -> Extent:
        extent = content.extents[index]
        where = self._objects[extent.object].digest
        return Extent(extent.offset, extent.length, where, extent.object_offset)
