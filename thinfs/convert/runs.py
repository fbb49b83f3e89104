"""Runs of consecutive bytes, and what is done with lists of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive bytes of a file or content.

    Attributes:
        offset: first byte.
        length: bytes, at least 1.
    """

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The byte behind the last one."""
        return self.offset + self.length


def joined(runs: Iterable[Run], size: int, *, unit: int = 1, gap: int = 0) -> tuple[Run, ...]:
    """The same bytes as few runs: ascending, apart from each other, inside the file.

    Args:
        runs: in any order; they may overlap, and reach behind the end.
        size: of the file.
        unit: runs begin and end at multiples of it, or at the end of the file.
        gap: runs that are at most so many bytes apart become one.
    """
    found: list[Run] = []
    for run in sorted(runs, key=lambda each: each.offset):
        offset = run.offset // unit * unit
        end = min(-(-run.end // unit) * unit, size)
        if end <= offset:
            continue
        if found and offset <= found[-1].end + gap:
            last = found.pop()
            offset, end = last.offset, max(last.end, end)
        found.append(Run(offset, end - offset))
    return tuple(found)


def rest(runs: Iterable[Run], whole: Run) -> Iterator[Run]:
    """What is left of ``whole`` without ``runs``.

    Args:
        runs: ascending, without overlap.
        whole: from which they are taken.
    """
    at = whole.offset
    for run in runs:
        if run.end <= at:
            continue
        if run.offset >= whole.end:
            break
        if run.offset > at:
            yield Run(at, run.offset - at)
        at = run.end
    if at < whole.end:
        yield Run(at, whole.end - at)


def overlap(one: Run, other: Run) -> Run | None:
    """The bytes that two runs have in common."""
    offset, end = max(one.offset, other.offset), min(one.end, other.end)
    return Run(offset, end - offset) if offset < end else None
