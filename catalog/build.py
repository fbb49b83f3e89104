"""Writing the final file: numbered rows go in, a sorted, checked, compact catalog comes out.

The work happens in a temporary directory beside the result. Rows of the tree wait in a scratch
database until the used contents and objects are known and numbered; then every table of the
result is filled once, in the order of its key, so that equal trees give equal bytes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from catalog import rules, schema
from catalog.errors import CatalogError, InvalidEntry
from catalog.model import CatalogSummary, Content, ObjectRef, TreeKind
from catalog.xattrs import XattrSets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.emit import Item

BATCH_ROWS: Final = 4096
"""Rows that wait in memory before they go to SQLite together."""

_CACHE_KIB: Final = 32 << 10
_VERSION_FIELD: Final = slice(96, 100)
_VERSION: Final = (3_040_000).to_bytes(4, "big")

_SCRATCH = """
CREATE TABLE scratch.node (ino INTEGER PRIMARY KEY, mode, uid, gid, mtime_ns, size, nlink, major,
    minor, digest BLOB, xattr_id, flags);
CREATE TABLE scratch.name (parent, name, ino, PRIMARY KEY (parent, name)) WITHOUT ROWID;
CREATE TABLE scratch.content (digest BLOB PRIMARY KEY, size, seq) WITHOUT ROWID;
CREATE TABLE scratch.extent (seq, offset, object, object_offset, length,
    PRIMARY KEY (seq, offset)) WITHOUT ROWID;
CREATE TABLE scratch.object (key INTEGER PRIMARY KEY, digest BLOB UNIQUE, size, stored_size);
CREATE TABLE scratch.used_content (id INTEGER PRIMARY KEY, digest BLOB);
CREATE TABLE scratch.place (id INTEGER PRIMARY KEY, size, seq);
CREATE TABLE scratch.used_object (id INTEGER PRIMARY KEY, key UNIQUE);
"""

_INSERT_NODE = "INSERT INTO scratch.node VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

_INSERT_OBJECT = """
INSERT INTO scratch.object (digest, size, stored_size) VALUES (?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET size = excluded.size, stored_size = excluded.stored_size
WHERE size IS NULL
"""

# Rows go in sorted by digest, so that the ids SQLite gives are dense and in that order.
_NUMBER_CONTENTS = """
INSERT INTO scratch.used_content (digest)
SELECT digest FROM scratch.node WHERE digest IS NOT NULL GROUP BY digest ORDER BY digest
"""

_INDEX_CONTENTS = "CREATE INDEX scratch.content_number ON used_content (digest)"

_PLACE_CONTENTS = """
INSERT INTO scratch.place SELECT u.id, c.size, c.seq
FROM scratch.used_content u LEFT JOIN scratch.content c ON c.digest = u.digest ORDER BY u.id
"""

_NUMBER_OBJECTS = """
INSERT INTO scratch.used_object (key) SELECT key FROM scratch.object WHERE key IN (
    SELECT e.object FROM scratch.place p JOIN scratch.extent e ON e.seq = p.seq)
ORDER BY digest
"""

_UNKNOWN_CONTENT = """
SELECT u.digest FROM scratch.place p JOIN scratch.used_content u ON u.id = p.id
WHERE p.seq IS NULL LIMIT 1
"""

_UNKNOWN_OBJECT = """
SELECT o.digest FROM scratch.used_object u JOIN scratch.object o ON o.key = u.key
WHERE o.size IS NULL LIMIT 1
"""

_WRONG_SIZE = """
SELECT c.digest, i.size, c.size FROM main.inode i JOIN main.content c ON c.id = i.content_id
WHERE c.size <> i.size LIMIT 1
"""

_OUTSIDE_OBJECT = """
SELECT o.digest FROM main.extent e JOIN main.object o ON o.id = e.object_id
WHERE e.length > o.size - e.object_offset LIMIT 1
"""

_FILL = (
    """
    INSERT INTO main.inode
    SELECT n.ino, n.mode, n.uid, n.gid, n.mtime_ns, n.size, n.nlink, n.major, n.minor,
           coalesce(u.id, 0), n.xattr_id, n.flags
    FROM scratch.node n LEFT JOIN scratch.used_content u ON u.digest = n.digest ORDER BY n.ino
    """,
    "INSERT INTO main.entry SELECT parent, name, ino FROM scratch.name ORDER BY parent, name",
    """
    INSERT INTO main.object SELECT u.id, o.digest, o.size, o.stored_size
    FROM scratch.used_object u JOIN scratch.object o ON o.key = u.key ORDER BY u.id
    """,
    """
    INSERT INTO main.content SELECT u.id, u.digest, p.size
    FROM scratch.used_content u JOIN scratch.place p ON p.id = u.id ORDER BY u.id
    """,
    """
    INSERT INTO main.extent SELECT p.id, e.offset, o.id, e.object_offset, e.length
    FROM scratch.place p JOIN scratch.extent e ON e.seq = p.seq
    JOIN scratch.used_object o ON o.key = e.object ORDER BY p.id, e.offset
    """,
)

_COUNTS = """
SELECT (SELECT count(*) FROM main.inode), (SELECT count(*) FROM main.entry),
       (SELECT count(*) FROM main.content), (SELECT count(*) FROM main.object),
       (SELECT coalesce(sum(size), 0) FROM main.content),
       (SELECT coalesce(sum(size), 0) FROM main.inode WHERE mode & 61440 = 32768)
"""


class CatalogBuilder:
    """Takes numbered rows and leaves a finished catalog; give it up with :meth:`close`.

    Inodes come in ascending order of their numbers; names, contents and objects in any order.
    Nothing is at ``path`` before :meth:`finish` has returned.
    """

    def __init__(self, path: Path, kind: TreeKind) -> None:
        self.kind = kind
        self._path = path
        self._directory = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            self.db = self._open()
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        self._xattrs = XattrSets(self.db)
        self._nodes: list[tuple[object, ...]] = []
        self._names: list[tuple[int, bytes, int]] = []
        self._symlinks: list[tuple[int, bytes]] = []
        self._contents: list[tuple[bytes, int, int]] = []
        self._extents: list[tuple[int, int, int, int, int]] = []
        self._object_keys: dict[bytes, int] = {}
        self._objects: list[tuple[bytes, int, int]] = []
        self._seq = 0
        self._numbered = False

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._result, isolation_level=None, check_same_thread=False)
        try:
            db.execute("ATTACH DATABASE ? AS scratch", (str(self._directory / "scratch"),))
            for name in ("main", "scratch"):
                db.execute(f"PRAGMA {name}.page_size = 4096")
                db.execute(f"PRAGMA {name}.journal_mode = OFF")
                db.execute(f"PRAGMA {name}.synchronous = OFF")
                db.execute(f"PRAGMA {name}.secure_delete = OFF")
                db.execute(f"PRAGMA {name}.cache_size = -{_CACHE_KIB}")
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            schema.create(db)
            db.executescript(_SCRATCH)
            db.execute("BEGIN")
        except BaseException:
            db.close()
            raise
        return db

    @property
    def _result(self) -> Path:
        return self._directory / "result"

    def inode(self, ino: int, item: Item, nlink: int) -> None:
        """Take one inode; ``item.xattrs`` are stored once for all inodes that have the same."""
        xattr_id = self._xattrs.set_id(item.xattrs) if item.xattrs else 0
        self._nodes.append(
            (
                ino,
                item.mode,
                item.uid,
                item.gid,
                item.mtime_ns,
                item.size,
                nlink,
                item.major,
                item.minor,
                item.digest,
                xattr_id,
                item.flags,
            )
        )
        if item.target:
            self._symlinks.append((ino, item.target))
        if len(self._nodes) >= BATCH_ROWS:
            self._flush_tree()

    def name(self, parent: int, name: bytes, ino: int) -> None:
        """Take one name of a directory."""
        self._names.append((parent, name, ino))

    def pending_link(self, parent: int, name: bytes, target: bytes) -> None:
        """Take one hard link to a file that lower layers hold."""
        self.db.execute("INSERT INTO main.pending_link VALUES (?, ?, ?)", (parent, name, target))

    def set_nlinks(self, counts: Iterator[tuple[int, int]]) -> None:
        """Correct the link counts of inodes; takes (count, ino) pairs."""
        self._flush_tree()
        self.db.executemany("UPDATE scratch.node SET nlink = ? WHERE ino = ?", counts)

    def add_object(self, ref: ObjectRef) -> None:
        """Make an object known; a digest that is known already is left as it is."""
        rules.check_object(ref)
        self._objects.append((ref.digest, ref.size, ref.stored_size))
        if len(self._objects) >= BATCH_ROWS:
            self._flush_contents()

    def add_content(self, content: Content) -> None:
        """Make a content known; a digest that is known already is left as it is."""
        rules.check_content(content)
        self._seq += 1
        self._contents.append((content.digest, content.size, self._seq))
        self._extents.extend(
            (self._seq, e.offset, self._object_key(e.object), e.object_offset, e.length)
            for e in content.extents
        )
        if len(self._contents) + len(self._extents) >= BATCH_ROWS:
            self._flush_contents()

    def number_contents(self) -> None:
        """Find out which contents the inodes use: after the last inode, before :meth:`uses`."""
        if not self._numbered:
            self._flush_tree()
            self.db.execute(_NUMBER_CONTENTS)
            self.db.execute(_INDEX_CONTENTS)
            self._numbered = True

    def uses(self, digest: bytes) -> bool:
        """Whether an inode has this content."""
        query = "SELECT 1 FROM scratch.used_content WHERE digest = ?"
        return self.db.execute(query, (digest,)).fetchone() is not None

    def finish(self) -> CatalogSummary:
        """Check, number and sort everything, and move the result to its place.

        Raises:
            InvalidEntry: a used content or object is not known, or sizes contradict each other.
        """
        self._number()
        for statement in _FILL:
            self.db.execute(statement)
        self._refuse(_WRONG_SIZE, "file and content differ in size")
        self._refuse(_OUTSIDE_OBJECT, "an extent ends after its object")
        summary = self._describe()
        self.db.execute("COMMIT")
        self.db.close()
        self._publish()
        return summary

    def close(self) -> None:
        """Remove what was not finished; harmless after :meth:`finish`."""
        self.db.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _number(self) -> None:
        self.number_contents()
        self._flush_contents()
        self.db.execute(_PLACE_CONTENTS)
        self._refuse(_UNKNOWN_CONTENT, "a file has a content that was never added")
        self.db.execute(_NUMBER_OBJECTS)
        self._refuse(_UNKNOWN_OBJECT, "an extent lies in an object that was never added")

    def _refuse(self, query: str, why: str) -> None:
        row = self.db.execute(query).fetchone()
        if row is not None:
            raise InvalidEntry(f"{why}: {row[0].hex()} {' / '.join(map(str, row[1:]))}".rstrip())

    def _describe(self) -> CatalogSummary:
        summary = CatalogSummary(self.kind, *self.db.execute(_COUNTS).fetchone())
        rows = [(name, getattr(summary, name)) for name in sorted(CatalogSummary.__slots__)]
        self.db.executemany("INSERT INTO main.meta VALUES (?, ?)", rows)
        return summary

    def _object_key(self, digest: bytes) -> int:
        """A small number for an object, known or not yet: extents come in runs of one object."""
        key = self._object_keys.get(digest)
        if key is None:
            query = "SELECT key FROM scratch.object WHERE digest = ?"
            row = self.db.execute(query, (digest,)).fetchone()
            if row is None:
                insert = "INSERT INTO scratch.object (digest) VALUES (?)"
                row = (self.db.execute(insert, (digest,)).lastrowid,)
            if len(self._object_keys) >= BATCH_ROWS:
                self._object_keys.clear()
            key = self._object_keys[digest] = row[0]
        return key

    def _flush_tree(self) -> None:
        self.db.executemany(_INSERT_NODE, self._nodes)
        self.db.executemany("INSERT INTO scratch.name VALUES (?, ?, ?)", self._names)
        self.db.executemany("INSERT INTO main.symlink VALUES (?, ?)", self._symlinks)
        self._nodes.clear()
        self._names.clear()
        self._symlinks.clear()

    def _flush_contents(self) -> None:
        execute = self.db.executemany
        execute(_INSERT_OBJECT, self._objects)
        execute("INSERT OR IGNORE INTO scratch.content VALUES (?, ?, ?)", self._contents)
        execute("INSERT INTO scratch.extent VALUES (?, ?, ?, ?, ?)", self._extents)
        self._objects.clear()
        self._contents.clear()
        self._extents.clear()

    def _publish(self) -> None:
        with self._result.open("r+b") as file:
            file.seek(_VERSION_FIELD.start)
            file.write(_VERSION)
            file.flush()
            os.fsync(file.fileno())
        self._result.rename(self._path)
        shutil.rmtree(self._directory, ignore_errors=True)


@contextlib.contextmanager
def building(path: Path, kind: TreeKind) -> Iterator[CatalogBuilder]:
    """A builder that is cleaned up whatever happens; local failures become CatalogError."""
    try:
        builder = CatalogBuilder(path, kind)
        try:
            yield builder
        finally:
            builder.close()
    except (sqlite3.Error, OSError) as error:
        raise CatalogError(f"writing catalog {path}: {error}") from error
