"""Which boot profile an image is converted with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from thinfs.convert.root import KEEP, BootWish
from thinfs.errors import MissingError, StoreError
from thinfs.store.profiles import MAX_PROFILE_BYTES, parse_profile

if TYPE_CHECKING:
    from pathlib import Path

    from thinfs.oci.model import Image
    from thinfs.store.profiles import Profile
    from thinfs.store.shelf import ProfileShelf

log = logging.getLogger(__name__)


def kept_profile(image: Image, shelf: ProfileShelf) -> BootWish:
    """What the repository knows of starts of an image, or of others with the same name.

    So an image that was updated starts with what is known of the version before it. Without
    any profile, a boot record that is there already stays as it is.

    Raises:
        StoreError: the disk refused.
    """
    profile = shelf.get(image.chain_id)
    if profile is None:
        profile = shelf.newest_of(image.reference.partition("@")[0])
        if profile is not None:
            log.info("no boot profile of this very image; taking that of %s", profile.origin)
    return BootWish(profile) if profile else KEEP


def read_profile(file: Path) -> Profile:
    """A profile from a file that a user names.

    Raises:
        MissingError: there is none.
        StoreError: it cannot be read.
        FormatError: it is no profile.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_PROFILE_BYTES + 1)
    except FileNotFoundError as error:
        raise MissingError(f"{file} does not exist") from error
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
    return parse_profile(data, str(file))
