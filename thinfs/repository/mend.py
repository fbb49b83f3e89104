"""Putting right bytes from another repository in the place of damaged ones."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from thinfs.errors import StoreError, ThinfsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from thinfs.repository.sources import Remote
    from thinfs.store.local import LocalRepository

    Accept = Callable[[Path], object]
    """Looks at a file; raises :class:`ThinfsError` when it is not what it should be."""

log = logging.getLogger(__name__)


class Mender:
    """Fetches files of a repository from others that have them.

    Args:
        repository: the one that is mended.
        remotes: where from, in order of preference.
    """

    def __init__(self, repository: LocalRepository, remotes: Sequence[Remote]) -> None:
        self._repository = repository
        self._remotes = remotes

    def mend(self, path: str, max_bytes: int, accept: Accept) -> str:
        """Replace one file, in one step, by the first copy that is right.

        Args:
            path: below the repository.
            max_bytes: most bytes that are fetched.
            accept: whether a copy is right.

        Returns:
            The address it came from; empty when nobody has it right.

        Raises:
            StoreError: this disk refuses.
        """
        for remote in self._remotes:
            try:
                self._replace(path, remote, max_bytes, accept)
            except StoreError:
                raise
            except ThinfsError as error:
                log.info("%s/%s: %s", remote.url, path, error)
            else:
                return remote.url
        return ""

    def _replace(self, path: str, remote: Remote, max_bytes: int, accept: Accept) -> None:
        target = self._repository.path / path
        with self._repository.converting() as work:
            fresh = work / f"mended-{secrets.token_hex(4)}"
            try:
                with fresh.open("wb") as file:
                    remote.copy(path, max_bytes, file)
                accept(fresh)
                self._repository.sync()
                target.parent.mkdir(parents=True, exist_ok=True)
                fresh.chmod(0o644)
                fresh.replace(target)
            except OSError as error:
                raise StoreError(f"{target}: {error.strerror}") from error
