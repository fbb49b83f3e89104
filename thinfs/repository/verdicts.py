"""Looking at one file after the other: is it right, can it be mended, what is to be said of it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thinfs.errors import MissingError, StoreError, ThinfsError
from thinfs.repository.files import RECORD_FOLDERS
from thinfs.repository.problems import Checked, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from thinfs.repository.problems import Accept, CheckProgress, Harm, Mending

FOUND: Final = ""
"""Owner of files that nobody names: they were found in their folder."""


class Verdicts:
    """Judges the files of one repository, each counted once.

    Args:
        repository: its directory.
        mending: gives right copies; ``None`` only judges.
        progress: hears of each file.

    Attributes:
        found: everything so far.
    """

    def __init__(self, repository: Path, mending: Mending | None, progress: CheckProgress) -> None:
        self._repository = repository
        self._mending = mending
        self._progress = progress
        self._seen: set[str] = set()
        self.found = Checked()

    def is_new(self, path: str) -> bool:
        """Whether a file has not been looked at yet."""
        return path not in self._seen

    def good(
        self, path: str, owner: str, max_bytes: int, test: Accept, harm: Harm = "broken"
    ) -> bool:
        """Whether a file is as it should be, or is so now that it was mended.

        Args:
            path: below the repository.
            owner: what names it, or :data:`FOUND`: then it may as well be gone.
            max_bytes: most bytes that a right copy has.
            test: raises when it is not as it should be.
            harm: of a file that is not.

        Raises:
            StoreError: the disk failed.
        """
        self.count(path)
        try:
            self._twice(path, test)
        except StoreError:
            raise
        except ThinfsError as error:
            is_missing = isinstance(error, MissingError)
            if is_missing and self._may_be_missing(owner):
                return False
            told = str(error).removeprefix(f"{self._repository / path} is ")
            what = "missing" if is_missing else told
            source = self._mending.mend(path, max_bytes, test) if self._mending else ""
            self.found.problems.append(Problem(path, what, owner, harm, source))
            return bool(source)
        return True

    def wrong(self, path: str, what: str, owner: str, harm: Harm = "broken") -> None:
        """Say of a file what no other copy of it would put right."""
        self.found.problems.append(Problem(path, what, owner, harm))

    def count(self, path: str) -> None:
        """Note that a file is looked at."""
        if path in self._seen:
            return
        self._seen.add(path)
        try:
            size = (self._repository / path).stat().st_size
        except OSError:
            return
        self.found.files += 1
        self.found.bytes += size
        self._progress.advance(1, size)

    def _twice(self, path: str, test: Accept) -> None:
        """A file that is just being replaced may look wrong once."""
        try:
            test(self._repository / path)
        except StoreError:
            raise
        except ThinfsError:
            test(self._repository / path)

    def _may_be_missing(self, owner: str) -> bool:
        """Whether a file has gone because who named it has: a collector is at work."""
        if owner == FOUND:
            return True
        is_record = owner.partition("/")[0] in RECORD_FOLDERS
        return is_record and not (self._repository / owner).exists()
