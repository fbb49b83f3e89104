"""Which contents a repository has already, and in which objects: the converters' memory.

The index lets a converter store a content once, whatever image it comes with. It is private to
writers and only ever a hint: an answer counts only while the objects it names are there, so an
index that is lost, old or ahead of the disk after a power cut costs room, never correctness.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from catalog.model import Content, Extent, ObjectRef
from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

INDEX_VERSION = 1
BUSY_TIMEOUT_S = 60.0

_SCHEMA = """
CREATE TABLE object(
    id          INTEGER PRIMARY KEY,
    digest      BLOB NOT NULL UNIQUE,   -- SHA-256 of the uncompressed object
    size        INTEGER NOT NULL,       -- uncompressed bytes
    stored_size INTEGER NOT NULL        -- bytes of its file
) STRICT;
CREATE TABLE content(
    id     INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,        -- SHA-256 of the whole body
    size   INTEGER NOT NULL             -- bytes
) STRICT;
CREATE TABLE extent(
    content_id    INTEGER NOT NULL REFERENCES content(id),
    offset        INTEGER NOT NULL,     -- first byte in the content
    object_id     INTEGER NOT NULL REFERENCES object(id),
    object_offset INTEGER NOT NULL,     -- first byte in the object
    length        INTEGER NOT NULL,
    PRIMARY KEY(content_id, offset)
) STRICT, WITHOUT ROWID;
"""


class ContentIndex:
    """The index file of one repository. One connection, for one thread at a time."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = _open(path)
        except sqlite3.OperationalError as error:  # locked, no room, no permission: not its fault
            raise StoreError(f"{path}: {error}") from error
        except sqlite3.DatabaseError as error:
            log.warning("%s: %s; starting an empty index", path, error)
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                path.with_name(name).unlink(missing_ok=True)
            with _errors(path):
                self._db = _open(path)
        self._path = path

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def find(self, digest: bytes) -> tuple[Content, tuple[ObjectRef, ...]] | None:
        """Where a content's bytes are, with the objects they lie in; ``None`` when unknown."""
        with _errors(self._path):
            row = self._db.execute(
                "SELECT id, size FROM content WHERE digest = ?", (digest,)
            ).fetchone()
            if row is None:
                return None
            rows = self._db.execute(
                "SELECT e.offset, e.length, o.digest, e.object_offset, o.size, o.stored_size"
                " FROM extent e JOIN object o ON o.id = e.object_id"
                " WHERE e.content_id = ? ORDER BY e.offset",
                (row[0],),
            ).fetchall()
        extents = tuple(Extent(r[0], r[1], r[2], r[3]) for r in rows)
        objects = {r[2]: ObjectRef(r[2], r[4], r[5]) for r in rows}
        return Content(digest, row[1], extents), tuple(objects.values())

    def add(self, objects: Iterable[ObjectRef], contents: Iterable[Content]) -> None:
        """Remember contents and the objects they lie in; the latest statement of each counts.

        Args:
            objects: every object the contents name, unless the index knows it.
            contents: their extents name objects given here or earlier.
        """
        with _errors(self._path), self._transaction():
            self._db.executemany(
                "INSERT INTO object(digest, size, stored_size) VALUES (?, ?, ?)"
                " ON CONFLICT(digest) DO UPDATE SET stored_size = excluded.stored_size",
                ((o.digest, o.size, o.stored_size) for o in objects),
            )
            for content in contents:
                self._add_content(content)

    def _add_content(self, content: Content) -> None:
        self._db.execute(
            "INSERT INTO content(digest, size) VALUES (?, ?) ON CONFLICT(digest) DO NOTHING",
            (content.digest, content.size),
        )
        content_id = self._db.execute(
            "SELECT id FROM content WHERE digest = ?", (content.digest,)
        ).fetchone()[0]
        self._db.execute("DELETE FROM extent WHERE content_id = ?", (content_id,))
        self._db.executemany(
            "INSERT INTO extent(content_id, offset, object_id, object_offset, length)"
            " SELECT ?, ?, id, ?, ? FROM object WHERE digest = ?",
            ((content_id, e.offset, e.object_offset, e.length, e.object) for e in content.extents),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {INDEX_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    if version not in (0, INDEX_VERSION):
        db.close()
        raise sqlite3.DatabaseError(f"version {version}")
    return db


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: {error}") from error
