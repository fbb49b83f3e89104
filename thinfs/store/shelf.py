"""The boot profiles of a repository on a local disk: one for each chain of layers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from thinfs import atomic
from thinfs.errors import FormatError, StoreError
from thinfs.store.layout import profile_path, raw_digest
from thinfs.store.profiles import parse_profile, render_profile

if TYPE_CHECKING:
    from pathlib import Path

    from thinfs.store.profiles import Profile

log = logging.getLogger(__name__)

MAX_LOOKED_AT: Final = 1000
"""Profiles that are read in search of one for an image that has none of its own."""


class ProfileShelf:
    """Reads and writes profiles. A damaged one counts as not there.

    Args:
        repository: its directory.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def get(self, chain_id: str) -> Profile | None:
        """The profile of a chain of layers.

        Raises:
            StoreError: the disk refused.
        """
        return self._read(self._repository / profile_path(raw_digest(chain_id)))

    def put(self, chain_id: str, profile: Profile) -> None:
        """Make a profile that of a chain of layers, which need not be the one it is from.

        A file that holds it already stays as old as it is.

        Raises:
            StoreError: the disk refused.
        """
        if self.get(chain_id) == profile:
            return
        file = self._repository / profile_path(raw_digest(chain_id))
        try:
            file.parent.mkdir(exist_ok=True)
            atomic.write(file, render_profile(profile))
        except OSError as error:
            raise StoreError(f"{file}: {error.strerror}") from error

    def newest_of(self, name: str) -> Profile | None:
        """The latest profile of any image of that name, as a profile's ``origin`` begins.

        Args:
            name: ``registry/repository:tag``, without a digest.

        Raises:
            StoreError: the disk refused.
        """
        folder = (self._repository / profile_path(bytes(32))).parent
        try:
            files = [each for each in folder.iterdir() if not each.name.startswith(".")]
            files.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror}") from error
        for file in files[:MAX_LOOKED_AT]:
            profile = self._read(file)
            if profile and profile.origin.partition("@")[0] == name:
                return profile
        return None

    @staticmethod
    def _read(file: Path) -> Profile | None:
        try:
            return parse_profile(file.read_bytes(), str(file))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{file}: {error.strerror}") from error
        except FormatError as error:
            log.warning("%s; going on without it", error)
            return None
