"""Which parts of a metadata image a start reads first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from catalog.erofs import locate
from thinfs.convert.runs import Run, joined, rest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thinfs.convert.touched import Touch
    from thinfs.store.profiles import Profile
    from thinfs.store.records import PublishedFile

BLOCK_BYTES: Final = 4 << 10
"""What the kernel reads a metadata image in."""

GAP_BYTES: Final = 12 << 10
"""Bytes between two parts that were read that are taken with them: the next start may read on."""

MAX_HOT_RUNS: Final = 2048
"""Runs that the boot record lists at most; when there are more, near ones become one."""


def hot_runs(
    metadata: PublishedFile, image: Path, profile: Profile, touches: Sequence[Touch]
) -> tuple[Run, ...]:
    """The parts of a metadata image that a start reads, first needed first.

    They are what was read of this very image when the profile was recorded. When that is not
    known, for the image has changed since, they are what the kernel needs to find what was
    touched.

    Args:
        metadata: the image as published.
        image: its file.
        profile: what was recorded.
        touches: the same, found again in the root of the image.

    Returns:
        Runs apart from each other, at most :data:`MAX_HOT_RUNS`, all in whole blocks.

    Raises:
        DamagedImage: the file is no metadata image.
        CatalogError: it cannot be read.
    """
    needed = locate(image, [touch.path for touch in touches if touch.path])
    runs = [Run(*each) for each in needed]
    if profile.metadata == metadata.digest and profile.metadata_ranges:
        asked = [Run(*each) for each in profile.metadata_ranges]
        return _in_order(joined(asked, metadata.size, unit=BLOCK_BYTES, gap=GAP_BYTES), runs)
    return _in_order(joined(runs, metadata.size, unit=BLOCK_BYTES), runs)


def cold_runs(hot: Sequence[Run], size: int) -> tuple[Run, ...]:
    """All of an image of ``size`` bytes but its hot parts, ascending."""
    return tuple(rest(sorted(hot, key=lambda run: run.offset), Run(0, size)))


def _in_order(chosen: tuple[Run, ...], needed: Sequence[Run]) -> tuple[Run, ...]:
    """Runs by when a block of them is needed first, the others behind; not too many of them."""
    gap = BLOCK_BYTES
    while len(chosen) > MAX_HOT_RUNS:
        chosen = joined(chosen, chosen[-1].end, gap=gap)
        gap *= 2
    rank: dict[int, int] = {}
    for number, run in enumerate(needed):
        for block in _blocks(run):
            rank.setdefault(block, number)
    return tuple(
        sorted(chosen, key=lambda run: min(rank.get(each, len(needed)) for each in _blocks(run)))
    )


def _blocks(run: Run) -> range:
    return range(run.offset // BLOCK_BYTES, -(-run.end // BLOCK_BYTES))
