"""The files of a machine, or of an image that is being built below a directory."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from thinfs import atomic
from thinfs.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from thinfs.install.plan import Plan, Step

NEW_FILE_MODE = 0o644


class Machine:
    """Reads and changes files below a root directory.

    Args:
        root: ``/``, or the directory of an image.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def path(self, path: PurePosixPath) -> Path:
        """Where a path of the machine is on this disk.

        Raises:
            UsageError: a symbolic link is in the way: writing would replace or escape it.
        """
        place = self._root / path.relative_to("/")
        if place.is_symlink() or not place.parent.resolve().is_relative_to(self._root):
            raise UsageError(f"{place} is behind a symbolic link; put the file itself there first")
        return place

    def exists(self, path: PurePosixPath) -> bool:
        """Whether something has this path; a link counts, wherever it leads."""
        return os.path.lexists(self._root / path.relative_to("/"))

    def read(self, paths: Iterable[PurePosixPath]) -> dict[PurePosixPath, bytes]:
        """The bytes of those files that exist.

        Raises:
            StoreError: a file cannot be read.
        """
        found = {}
        for path in paths:
            with _disk_errors(path), suppress(FileNotFoundError):
                found[path] = self.path(path).read_bytes()
        return found

    def apply(
        self, plan: Plan, checked: PurePosixPath, check: Callable[[Path], None] | None
    ) -> None:
        """Carry out a plan: each file in one step, all of them or none.

        Args:
            plan: made from what :meth:`read` gave.
            checked: the file that ``check`` looks at.
            check: called with a candidate beside that file before it takes its name, or with the
                file itself at the end when it does not change; raises to refuse.

        Raises:
            StoreError: a file cannot be written or was changed meanwhile.
            UsageError: ``check`` refused.
        """
        done: list[Step] = []
        try:
            for step in plan.steps:
                self._require_unchanged(step)
                if check is not None and step.path == checked and step.after is not None:
                    self._try(self.path(step.path), step.after, check)
                done.append(step)
                self._put(step.path, step.after, step.like)
            if check is not None and checked not in {step.path for step in plan.steps}:
                check(self.path(checked))
        except BaseException:
            for step in reversed(done):
                self._put(step.path, step.before)
            raise

    def _require_unchanged(self, step: Step) -> None:
        if self.read([step.path]).get(step.path) != step.before:
            raise StoreError(f"{step.path} was changed by somebody else meanwhile; run this again")

    def _put(
        self, path: PurePosixPath, data: bytes | None, like: PurePosixPath | None = None
    ) -> None:
        place = self.path(path)
        with _disk_errors(path):
            if data is None:
                self._remove(place)
                return
            place.parent.mkdir(parents=True, exist_ok=True)
            model = place if place.exists() else self.path(like or path)
            old = model.stat() if model.exists() else None
            atomic.write(place, data, mode=stat.S_IMODE(old.st_mode) if old else NEW_FILE_MODE)
            if old and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(place, old.st_uid, old.st_gid)

    def _remove(self, place: Path) -> None:
        """Remove a file, and its directory when that is empty and one of ours."""
        place.unlink(missing_ok=True)
        if place.parent.name in {"thinfs", "conf.d"}:
            with suppress(OSError):
                place.parent.rmdir()
        if place.parent.exists():
            atomic.sync_directory(place.parent)

    def _try(self, place: Path, data: bytes, check: Callable[[Path], None]) -> None:
        """Show ``check`` a candidate in the same directory, so that relative imports are found."""
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=place.parent, prefix=".thinfs-candidate.", suffix=".toml"
        ) as candidate:
            candidate.write(data)
            candidate.flush()
            check(Path(candidate.name))


@contextmanager
def _disk_errors(path: PurePosixPath) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise StoreError(f"{path}: {error.strerror}; run this as root") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StoreError(f"{path}: {error.strerror}") from error
