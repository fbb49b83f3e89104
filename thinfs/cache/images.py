"""Images that were brought to this node on purpose: which files they are, and what is pinned.

Synchronous, and called where :class:`thinfs.cache.directory.NodeCache` is called. The tables are
those of ``images.sql``.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinfs.atomic import sync_file_system
from thinfs.cache.places import Kind, to_free
from thinfs.cache.state import store_errors, used_bytes
from thinfs.errors import MissingError, StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from thinfs.cache.directory import NodeCache

ALL, PROFILE, PATHS = "all", "profile", "path"
_MIB = 1 << 20

_DISTINCT = "SELECT kind, digest, max(bytes) AS bytes FROM image_files WHERE image IN"
_PINNED = "SELECT id FROM images WHERE pinned"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image, or a part of it, that is to be on this node.

    Attributes:
        name: its full name, or the path it was named by.
        part: ``all``, ``profile``, or ``path`` and the patterns, separated by line breaks.
        recipe: the text of ``thin.json``.
    """

    name: str
    part: str
    recipe: str

    @property
    def version(self) -> bytes:
        """SHA-256 of the recipe."""
        return hashlib.sha256(self.recipe.encode()).digest()


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image that was brought here, and how much of it is here now. Sizes count whole blocks.

    Attributes:
        wanted: which one.
        pinned: whether its files stay.
        files: number of its files.
        here: how many of them are here.
        bytes: of all its files.
        bytes_here: of those that are here.
    """

    wanted: Wanted
    pinned: bool
    files: int
    here: int
    bytes: int
    bytes_here: int

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return self.here == self.files


Files = dict[tuple[Kind, bytes], int]
"""What files count against the quota when they are here, by kind and digest."""


def known_images(cache: NodeCache, name: str | None = None) -> list[KnownImage]:
    """What was brought here, by name and part; with ``name`` that image alone."""
    with cache.state.transaction() as db:
        rows = db.execute(
            "SELECT name, part, recipe, pinned, count(*), count(files.id),"
            " sum(image_files.bytes), sum(iif(files.id IS NULL, 0, image_files.bytes))"
            " FROM images JOIN image_files ON image_files.image = images.id"
            " LEFT JOIN files USING (kind, digest)"
            " WHERE ?1 IS NULL OR name = ?1 GROUP BY images.id ORDER BY name, part, images.id",
            (name,),
        ).fetchall()
    return [
        KnownImage(Wanted(*wanted), bool(pinned), *figures)
        for *wanted, pinned, files, here, size, size_here in rows
        for figures in [(files, here, size, size_here)]
    ]


def is_complete(cache: NodeCache, wanted: Wanted, *, pinned: bool) -> bool:
    """Whether an image has been brought here, is all here still, and pinned if that is wanted.

    The book-keeping is asked, and not the disk: some milliseconds for 20 000 files.
    """
    return any(
        image.complete
        and (image.pinned or not pinned)
        and image.wanted.version == wanted.version
        and image.wanted.part in (ALL, wanted.part)
        for image in known_images(cache, wanted.name)
    )


def remember(cache: NodeCache, images: Mapping[Wanted, Files], *, pinned: bool) -> None:
    """Note what is going to be brought here, if there is room for all of it.

    What is pinned is protected from here on, file by file as it comes. A name that is pinned
    already stays so.

    Args:
        cache: open.
        images: with their files.
        pinned: whether the files must stay.

    Raises:
        StoreError: there is no room beside what is pinned, or on the disk. Nothing is noted.
    """
    with cache.state.transaction() as db:
        numbers = [_insert(db, wanted, files, pinned) for wanted, files in images.items()]
        _check_quota(cache, db, numbers)
        _check_disk(cache, db, numbers)


def supersede(cache: NodeCache, wanted: Wanted) -> None:
    """Forget other versions of an image: a newer one is here."""
    with cache.state.transaction() as db:
        db.execute(
            "DELETE FROM images WHERE name = ? AND version != ?", (wanted.name, wanted.version)
        )


def lacking(cache: NodeCache, files: Files) -> int:
    """How many of the files are not here."""
    with cache.state.transaction() as db:
        return sum(not _has(db, *key) for key in files)


def pin(cache: NodeCache, name: str) -> None:
    """Have the files of an image stay that was brought here, and what is still to come of it.

    Raises:
        MissingError: it was not brought here.
        StoreError: so much would be pinned that the cache could not work.
    """
    with cache.state.transaction() as db:
        changed = db.execute("UPDATE images SET pinned = 1 WHERE name = ?", (name,))
        if not changed.rowcount:
            raise _unknown(name)
        _check_quota(cache, db, [])
    make_durable(cache)


def unpin(cache: NodeCache, name: str) -> None:
    """Let the files of an image go when room is needed.

    Raises:
        MissingError: it was not brought here.
    """
    with cache.state.transaction() as db:
        changed = db.execute("UPDATE images SET pinned = 0 WHERE name = ?", (name,))
        if not changed.rowcount:
            raise _unknown(name)


def evict(cache: NodeCache, name: str) -> tuple[int, int]:
    """Forget an image, and remove those of its files that no other image needs that is known.

    Who has one of them open keeps it. Catalogs, metadata images and boot records of attached
    roots stay.

    Returns:
        Files removed, and their bytes.

    Raises:
        MissingError: it was not brought here.
        StoreError: it is pinned.
    """
    with cache.state.transaction() as db:
        rows = db.execute("SELECT id, pinned FROM images WHERE name = ?", (name,)).fetchall()
        if not rows:
            raise _unknown(name)
        if any(pinned for _, pinned in rows):
            raise StoreError(f"{name} is pinned: thinfs cache unpin {name} first")
        own = db.execute(
            f"SELECT kind, digest, bytes FROM files WHERE (kind, digest) IN ({_FILES_OF_NAME})"  # noqa: S608 - constants
            " AND NOT EXISTS (SELECT 1 FROM pins WHERE pins.kind = files.kind"
            " AND pins.digest = files.digest)",
            (name, name),
        ).fetchall()
        for kind, digest, _ in own:
            cache.remove(db, Kind(kind), digest)
        db.execute("DELETE FROM images WHERE name = ?", (name,))
    return len(own), sum(size for *_, size in own)


_FILES_OF_NAME = (
    "SELECT kind, digest FROM image_files JOIN images ON images.id = image WHERE name = ?"
    " EXCEPT SELECT kind, digest FROM image_files JOIN images ON images.id = image WHERE name != ?"
)


def make_durable(cache: NodeCache) -> None:
    """Wait until what was brought here, and that it was, would outlive a power cut."""
    cache.settle()
    with store_errors(cache.places.root):
        sync_file_system(cache.places.root)  # the book-keeping, which settle() wrote last


def _insert(db: sqlite3.Connection, wanted: Wanted, files: Files, pinned: bool) -> int:
    held = db.execute("SELECT 1 FROM images WHERE name = ? AND pinned", (wanted.name,)).fetchone()
    key = (wanted.name, wanted.part, wanted.version)
    db.execute("DELETE FROM images WHERE name = ? AND part = ? AND version = ?", key)
    made = db.execute(
        "INSERT INTO images (name, part, version, recipe, pinned) VALUES (?, ?, ?, ?, ?)",
        (*key, wanted.recipe, int(pinned or held is not None)),
    )
    number = made.lastrowid
    assert number is not None
    db.executemany(
        "INSERT INTO image_files (image, kind, digest, bytes) VALUES (?, ?, ?, ?)",
        [(number, kind, digest, size) for (kind, digest), size in files.items()],
    )
    return number


def _check_quota(cache: NodeCache, db: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """What is pinned and what is coming must leave the cache some room to work in."""
    (needed,) = db.execute(
        f"SELECT coalesce(sum(bytes), 0) FROM ({_DISTINCT} ({_PINNED} OR id IN ({_marks(numbers)}))"  # noqa: S608 - only marks
        " GROUP BY kind, digest)",
        numbers,
    ).fetchone()
    if needed > cache.largest_bytes:
        raise StoreError(
            f"no room in {cache.places.root}: with what is pinned {needed // _MIB} MiB would have"
            f" to stay, of {cache.largest_bytes // _MIB} MiB that may (low_water of max_bytes):"
            " unpin an image, or raise [cache] max_bytes"
        )


def _check_disk(cache: NodeCache, db: sqlite3.Connection, numbers: Sequence[int]) -> None:
    (missing,) = db.execute(
        f"SELECT coalesce(sum(bytes), 0) FROM ({_DISTINCT} ({_marks(numbers)})"  # noqa: S608 - only marks
        " AND NOT EXISTS (SELECT 1 FROM files WHERE files.kind = image_files.kind"
        " AND files.digest = image_files.digest) GROUP BY kind, digest)",
        numbers,
    ).fetchone()
    evicted = to_free(used_bytes(db), missing, cache.max_bytes, cache.low_water)
    status = os.statvfs(cache.places.root)
    free = status.f_bavail * status.f_frsize
    if missing > free + evicted:
        raise StoreError(
            f"no room on the disk of {cache.places.root}: {missing // _MIB} MiB are to come, and"
            f" {(free + evicted) // _MIB} MiB are free"
        )


def _marks(values: Sequence[int]) -> str:
    return ", ".join("?" * len(values))


def _has(db: sqlite3.Connection, kind: Kind, digest: bytes) -> bool:
    row = db.execute("SELECT 1 FROM files WHERE kind = ? AND digest = ?", (kind, digest))
    return row.fetchone() is not None


def _unknown(name: str) -> MissingError:
    return MissingError(f"{name} was not brought to this node: thinfs warm {name}")
