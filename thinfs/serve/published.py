"""Which paths of a repository are public, and how long their bytes may be kept: no I/O.

The list names what is served by its exact shape, rather than what is not: whatever a writer
puts into the directory next (an index, a lock, temporary files) stays private by itself, and a
path with ``..``, an empty component or a NUL matches nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from thinfs.store.layout import IMAGES_DIRECTORY, REPOSITORY_FILE

IMMUTABLE = "public, max-age=31536000, immutable"
"""``Cache-Control`` of files whose bytes never change: a year, the most RFC 9111 caches use."""

REVALIDATE = "no-cache"
"""``Cache-Control`` of the few files that change in place: keep them, but ask each time."""

JSON = "application/json"
BYTES = "application/octet-stream"

_FANNED_OUT = re.compile(r"(?:objects|catalogs|metadata|boots)/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_LAYER = re.compile(r"layers/([0-9a-f]{64})")
_REPLACED = re.compile(r"(?:roots|profiles)/[0-9a-f]{64}")
_BLOB = re.compile(rf"{IMAGES_DIRECTORY}/blobs/sha256/([0-9a-f]{{64}})")
_CHANGING = frozenset(
    {REPOSITORY_FILE, f"{IMAGES_DIRECTORY}/index.json", f"{IMAGES_DIRECTORY}/oci-layout"}
)


@dataclass(frozen=True, slots=True)
class Published:
    """One path that the repository offers to everyone.

    Attributes:
        path: below the repository, with ``/``.
        digest: the file's name, 64 hex digits; ``None`` for files that change in place.
        cache_control: the header's value.
        media_type: the ``Content-Type``.
    """

    path: str
    digest: str | None
    cache_control: str
    media_type: str


def published(path: str) -> Published | None:
    """What ``path`` is, or ``None`` when it is nobody's business.

    Args:
        path: decoded, below the repository, without a leading slash.
    """
    if found := _FANNED_OUT.fullmatch(path):
        return Published(path, found[2], IMMUTABLE, BYTES)
    if found := _LAYER.fullmatch(path):
        return Published(path, found[1], IMMUTABLE, JSON)
    if found := _BLOB.fullmatch(path):
        return Published(path, found[1], REVALIDATE, BYTES)
    if path in _CHANGING or _REPLACED.fullmatch(path):
        return Published(path, None, REVALIDATE, JSON)
    return None
