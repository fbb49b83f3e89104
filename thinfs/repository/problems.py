"""What a check of a repository finds, and what it asks of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Harm = Literal["broken", "note"]

Accept = Callable[[Path], object]
"""Looks at a file; raises a ``ThinfsError`` when it is not what it should be."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        path: the file, below the repository.
        what: what is wrong with it.
        owner: what names the file; empty when nothing does.
        harm: ``broken``: images cannot be read, or converters go wrong; ``note``: nobody
            is harmed.
        mended_from: the address from which a right copy came; empty: it is still wrong.
    """

    path: str
    what: str
    owner: str
    harm: Harm
    mended_from: str = ""


@dataclass(slots=True)
class Checked:
    """What was looked at, and what was found.

    Attributes:
        images: names in the layout.
        files: files that were looked at.
        bytes: what they take, as stored.
        problems: in the order in which they were found.
    """

    images: int = 0
    files: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def broken(self) -> int:
        """How many problems do harm and are still there."""
        return sum(each.harm == "broken" and not each.mended_from for each in self.problems)


class Mending(Protocol):
    """Puts right files in the place of damaged ones."""

    def mend(self, path: str, max_bytes: int, accept: Accept) -> str:
        """Replace one file, in one step, by the first copy that is right.

        Args:
            path: below the repository.
            max_bytes: most bytes that are fetched.
            accept: whether a copy is right.

        Returns:
            The address it came from; empty when nobody has it right.
        """
        ...


class CheckProgress(Protocol):
    """Hears how far a check is."""

    def stage(self, what: str) -> None:
        """Another part of the work begins."""
        ...

    def advance(self, files: int, size: int) -> None:
        """So many more files, with so many bytes, have been looked at."""
        ...
