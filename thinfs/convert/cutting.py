"""How a metadata image is cut into objects, so that a node reads it piece by piece. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thinfs.convert.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PIECE_BYTES: Final = 64 << 10
"""Bytes of an object of metadata.

The kernel reads an image in blocks of 4 KiB here and there. Measured with the image of 66 000
files (13.4 MB; 3.32 MB as one frame): ``jupyter lab --version`` touches 0.67 MB of it when that
is compressed, for which pieces of 64, 128 and 256 KiB fetch 1.17, 1.52 and 2.16 MB; all pieces
together take 3.40, 3.42 and 3.42 MB, and are 205, 103 and 52.
"""

MAX_PIECES: Final = 1024
"""Objects of a metadata image at most, as far as 1 MiB suffices: each is listed in the boot
record with some 40 compressed bytes, which every start waits for."""


HOT_OBJECT_BYTES: Final = 256 << 10
"""Bytes of an object of those parts of a metadata image that a start reads first: a container
waits for the first of them, so they are not as large as objects may be."""


def piece_bytes(size: int, most: int) -> int:
    """Bytes of each piece but the last of an image of ``size`` bytes.

    Args:
        size: of the image.
        most: bytes that an object may have, a power of two.
    """
    piece = PIECE_BYTES
    while piece < most and size > piece * MAX_PIECES:
        piece *= 2
    return piece


def packed(runs: Iterable[Run], most: int) -> Iterator[tuple[Run, ...]]:
    """Runs put together in their order, each group exactly ``most`` bytes but the last.

    A run that does not fit into the rest of a group goes on in the next one.
    """
    group: list[Run] = []
    room = most
    for run in runs:
        offset = run.offset
        while offset < run.end:
            part = Run(offset, min(room, run.end - offset))
            group.append(part)
            offset += part.length
            room -= part.length
            if not room:
                yield tuple(group)
                group, room = [], most
    if group:
        yield tuple(group)
