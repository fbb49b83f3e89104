"""Boot bundles: what a start touches, packed into objects in the order of first touch. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from catalog.model import Extent
from thinfs.convert.runs import Run, overlap, rest
from thinfs.store.layout import MAX_OBJECT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from catalog.model import Content
    from thinfs.convert.touched import Touch

PIECE_BYTES: Final = 256 << 10
"""Runs of large contents are cut at multiples of this."""

LEAST_BUNDLE_BYTES: Final = 512 << 10
"""From this size on a bundle ends with the first slice that is a landmark."""

FIRST_BUNDLE_BYTES: Final = 64 << 10
"""What the first bundle holds at most; each one after it twice as much. Whoever makes a container
waits for the first few small files: at 100 Mbit/s a bundle of full size took 0.2 s to come."""

LANDMARKS: Final = 8
"""Every so many slices one is a landmark."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes of a content that go into a bundle together.

    Attributes:
        content: whose bytes.
        run: which of them; at most :data:`~thinfs.store.layout.MAX_OBJECT_BYTES`.
    """

    content: Content
    run: Run

    @property
    def is_landmark(self) -> bool:
        """Whether a bundle likes to end here: a property of the slice alone."""
        return (self.content.digest[0] + self.run.offset // PIECE_BYTES) % LANDMARKS == 0


def slices(touches: Iterable[Touch]) -> Iterator[Slice]:
    """What is to be packed, in order: all that was touched, but for holes.

    A small content is one slice, so that it lies in one object.
    """
    for touch in touches:
        content = touch.content
        stored = [Run(extent.offset, extent.length) for extent in content.extents]
        for run in touch.runs:
            for here in stored:
                both = overlap(run, here)
                if both:
                    yield from (Slice(content, piece) for piece in _pieces(both))


def bundles(found: Iterable[Slice]) -> Iterator[tuple[Slice, ...]]:
    """Slices in groups of at most 1 MiB, the first ones smaller, in their order.

    Where a group ends depends, as far as its size allows, on the slice it ends with and not on
    what came before. So where one content has changed, the bundles before and soon behind it
    stay what they were, and are in the repository already.
    """
    group: list[Slice] = []
    filled, most = 0, FIRST_BUNDLE_BYTES
    for each in found:
        if group and filled + each.run.length > most:
            yield tuple(group)
            group, filled, most = [], 0, min(2 * most, MAX_OBJECT_BYTES)
        group.append(each)
        filled += each.run.length
        if filled >= LEAST_BUNDLE_BYTES and each.is_landmark:
            yield tuple(group)
            group, filled = [], 0
    if group:
        yield tuple(group)


def spliced(content: Content, placed: Sequence[Extent]) -> tuple[Extent, ...]:
    """A content's extents where some of its bytes are to be read from other objects.

    Args:
        content: with the extents of its catalog.
        placed: the other places, ascending and without overlap.
    """
    taken = [Run(extent.offset, extent.length) for extent in placed]
    left = [
        Extent(
            run.offset,
            run.length,
            extent.object,
            extent.object_offset + run.offset - extent.offset,
        )
        for extent in content.extents
        for run in rest(taken, Run(extent.offset, extent.length))
    ]
    return tuple(sorted((*placed, *left), key=lambda extent: extent.offset))


def _pieces(run: Run) -> Iterator[Run]:
    """A run cut at multiples of PIECE_BYTES; what is shorter than that stays whole."""
    at = run.offset
    while run.end - at > PIECE_BYTES:
        end = (at // PIECE_BYTES + 1) * PIECE_BYTES
        yield Run(at, end - at)
        at = end
    if at < run.end:
        yield Run(at, run.end - at)
