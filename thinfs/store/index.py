"""Which contents a repository has already, and in which objects: the converters' memory.

The index lets a converter store a content once, whatever image it comes with. It is private to
writers and only ever a hint: an answer counts only while the objects it names are there, so an
index that is lost, old or ahead of the disk after a power cut costs room, never correctness.
"""

from __future__ import annotations

import itertools
import logging
import operator
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from catalog.model import Content, Extent, ObjectRef
from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

INDEX_VERSION = 1
BUSY_TIMEOUT_S = 60.0
MAX_ASKED = 4096
"""Most contents asked about at once (SQLite allows 32 766 parameters)."""

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

_FIND = """
SELECT c.digest, c.size, e.offset, e.length, o.digest, e.object_offset, o.size, o.stored_size
FROM content c JOIN extent e ON e.content_id = c.id JOIN object o ON o.id = e.object_id
WHERE c.digest IN ({marks}) ORDER BY c.digest, e.offset
"""
_FORGET = """
DELETE FROM extent WHERE content_id = (SELECT id FROM content WHERE digest = ?)
"""
_LOSE = (
    "CREATE TEMP TABLE IF NOT EXISTS gone(id INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE IF NOT EXISTS lost(id INTEGER PRIMARY KEY)",
    "DELETE FROM gone",
    "DELETE FROM lost",
)
# A content that lies in an object no more is unknown as a whole: what no extent covers is zero.
_LOST = (
    "INSERT INTO lost SELECT DISTINCT content_id FROM extent WHERE object_id IN gone",
    "DELETE FROM extent WHERE content_id IN lost",
    "DELETE FROM content WHERE id IN lost",
    "DELETE FROM object WHERE id IN gone",
)
_PLACE = """
INSERT OR REPLACE INTO extent(content_id, offset, object_id, object_offset, length)
SELECT c.id, ?, o.id, ?, ? FROM content c, object o WHERE c.digest = ? AND o.digest = ?
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

    def find(self, digests: Sequence[bytes]) -> Iterator[tuple[Content, tuple[ObjectRef, ...]]]:
        """Where contents' bytes are, with the objects they lie in; unknown ones are passed over.

        A content that is all holes lies in no object, and counts as unknown.

        Args:
            digests: at most ``MAX_ASKED``, none twice.
        """
        query = _FIND.format(marks=",".join("?" * len(digests)))
        with _errors(self._path):
            rows = self._db.execute(query, digests).fetchall()
        for digest, group in itertools.groupby(rows, key=operator.itemgetter(0)):
            found = list(group)
            extents = tuple(Extent(*row[2:6]) for row in found)
            objects = {row[4]: ObjectRef(row[4], row[6], row[7]) for row in found}
            yield Content(digest, found[0][1], extents), tuple(objects.values())

    def add(self, objects: Iterable[ObjectRef], contents: Iterable[Content]) -> None:
        """Remember contents and the objects they lie in; the latest statement of each counts.

        Args:
            objects: every object the contents name, unless the index knows it.
            contents: their extents name objects given here or earlier.
        """
        contents = list(contents)
        with _errors(self._path), self._transaction():
            self._db.executemany(
                "INSERT INTO object(digest, size, stored_size) VALUES (?, ?, ?)"
                " ON CONFLICT(digest) DO UPDATE SET stored_size = excluded.stored_size",
                ((o.digest, o.size, o.stored_size) for o in objects),
            )
            self._db.executemany(_FORGET, ((c.digest,) for c in contents))
            self._db.executemany(
                "INSERT INTO content(digest, size) VALUES (?, ?) ON CONFLICT(digest) DO NOTHING",
                ((c.digest, c.size) for c in contents),
            )
            self._db.executemany(
                _PLACE,
                (
                    (e.offset, e.object_offset, e.length, c.digest, e.object)
                    for c in contents
                    for e in c.extents
                ),
            )

    def forget(self, objects: Iterable[bytes]) -> None:
        """Forget objects, and every content of which a part lies in one of them.

        Only for who works on the repository alone: a converter that has added an object counts
        on finding it when it adds what lies in there.

        Args:
            objects: digests; unknown ones are passed over.
        """
        with _errors(self._path), self._transaction():
            for statement in _LOSE:
                self._db.execute(statement)
            self._db.executemany(
                "INSERT OR IGNORE INTO gone SELECT id FROM object WHERE digest = ?",
                ((digest,) for digest in objects),
            )
            for statement in _LOST:
                self._db.execute(statement)

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
