"""Hashing everything again that a node cache has whole.

Synchronous. Others may use the cache meanwhile: what is evicted while it is looked at is no harm.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinfs.cache.places import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from thinfs.cache.directory import NodeCache


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file that is not what its name says, or cannot be read.

    Attributes:
        kind: what it should be.
        digest: its name.
        why: for people.
    """

    kind: Kind
    digest: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at.

    Attributes:
        files: how many.
        bytes: of them.
        damaged: those that are not what they should be, or not there.
    """

    files: int
    bytes: int
    damaged: tuple[Damaged, ...]


def verify(cache: NodeCache, advance: Callable[[int, int], None]) -> Verified:
    """Hash every whole file that is accounted for; partial ones are hashed when they are whole.

    Args:
        cache: open.
        advance: hears of each file and its bytes.
    """
    with cache.state.transaction() as db:
        rows = db.execute(
            "SELECT kind, digest FROM files WHERE kind != 'partial' ORDER BY kind, digest"
        ).fetchall()
    files = total = 0
    damaged = []
    for name, digest in rows:
        kind = Kind(name)
        size, why = _look(cache.places.file(kind, digest), digest)
        if why and _is_known(cache, kind, digest):
            damaged.append(Damaged(kind, digest, why))
        files, total = files + 1, total + size
        advance(1, size)
    return Verified(files, total, tuple(damaged))


def remove(cache: NodeCache, damaged: Sequence[Damaged]) -> None:
    """Remove what is damaged: whoever needs it fetches it again."""
    with cache.state.transaction() as db:
        for each in damaged:
            cache.remove(db, each.kind, each.digest)


def _look(path: Path, digest: bytes) -> tuple[int, str]:
    """Bytes of a file, and what is wrong with it; empty when nothing is."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
            size = file.tell()
    except OSError as error:
        return 0, error.strerror or str(error)
    return size, "" if found == digest else "its bytes have another digest"


def _is_known(cache: NodeCache, kind: Kind, digest: bytes) -> bool:
    """Whether a file is accounted for still, and was not evicted just now."""
    with cache.state.transaction() as db:
        row = db.execute("SELECT 1 FROM files WHERE kind = ? AND digest = ?", (kind, digest))
        return row.fetchone() is not None
