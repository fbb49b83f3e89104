"""Which bytes of which objects a read needs, and what to fetch before it is asked for. Pure."""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.model import Content, Extent

MAX_AHEAD_OBJECTS: Final = 4
"""Most objects that are on their way ahead of one sequential reader."""

SLACK_BYTES: Final = 4 << 20
"""How far from its expected place a read may be and still belong to a sequence: the kernel
sends the parts of its read-ahead in parallel, in any order."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a read that lies in one extent.

    Attributes:
        index: the extent's position in the content's list.
        extent: the extent.
        start: first byte of the part, counted from the beginning of the extent.
        length: bytes, at least 1.
        target: where the part goes, counted from the beginning of the read.
    """

    index: int
    extent: Extent
    start: int
    length: int
    target: int


def pieces(extents: Sequence[Extent], offset: int, length: int) -> Iterator[Piece]:
    """The parts of ``[offset, offset + length)``, ascending; what no part covers is zero."""
    end = offset + length
    index = max(0, bisect_right(extents, offset, key=lambda extent: extent.offset) - 1)
    while index < len(extents) and extents[index].offset < end:
        extent = extents[index]
        first = max(offset, extent.offset)
        last = min(end, extent.offset + extent.length)
        if first < last:
            yield Piece(index, extent, first - extent.offset, last - first, first - offset)
        index += 1


def layout_digest(content: Content) -> bytes:
    """Names a content together with where a catalog says its bytes are.

    Partial contents are shared by readers of the same layout only: a catalog with wrong extents
    cannot put its bytes into a file that readers of an honest one look at.
    """
    state = hashlib.sha256(content.digest)
    for extent in content.extents:
        state.update(struct.pack("<QQQ", extent.offset, extent.length, extent.object_offset))
        state.update(extent.object)
    return state.digest()


@dataclass(slots=True)
class ReadAhead:
    """Recognises one reader's sequence and says how far ahead of it to fetch.

    Attributes:
        expected: where the next read of the sequence begins.
        window: objects to have on their way ahead of the reader; 0 outside a sequence.
    """

    expected: int = 0
    window: int = 0

    def advance(self, offset: int, length: int) -> int:
        """Note a read.

        Returns:
            How many of the objects behind the read to fetch, 0 to :data:`MAX_AHEAD_OBJECTS`:
            one after the second read of a sequence, then twice as many with each.
        """
        if offset == 0 and self.expected == 0:
            self.expected = length
            return 0
        if abs(offset - self.expected) > SLACK_BYTES:
            self.expected, self.window = offset + length, 0
            return 0
        self.expected = max(self.expected, offset + length)
        self.window = min(max(1, self.window * 2), MAX_AHEAD_OBJECTS)
        return self.window
