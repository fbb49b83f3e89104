"""The tree of a layer while its entries arrive: names and inodes in SQLite, writes in batches."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any, Final

from catalog import schema
from catalog.emit import Item
from catalog.model import ROOT_INO

if TYPE_CHECKING:
    import sqlite3

BATCH_ROWS: Final = 8192

NOTHING: Final = 0  # only a whiteout
DIRECTORY: Final = 1
SYMLINK: Final = 2
FILE: Final = 3  # anything else that has an inode
PENDING: Final = 4  # a hard link to a file of lower layers

Name = tuple[int, int, int]
"""(ino, what it is: one of the constants above, cut).

``cut`` is 1 once this layer has removed or replaced what lower layers have under the name:
a directory that stands there in the end is opaque, and nothing there is a whiteout.
"""

_TABLES = (
    """CREATE TABLE scratch.raw_name (parent, name, ino, kind, cut, PRIMARY KEY (parent, name))
    WITHOUT ROWID""",
    """CREATE TABLE scratch.raw_inode (ino INTEGER PRIMARY KEY, mode, uid, gid, mtime_ns, size,
    major, minor, digest BLOB, xattrs BLOB, target BLOB, flags)""",
    "CREATE TABLE scratch.raw_opaque (ino INTEGER PRIMARY KEY)",
    "CREATE TABLE scratch.raw_linked (ino INTEGER PRIMARY KEY)",
)

_INSERT_INODE = (
    "INSERT OR REPLACE INTO scratch.raw_inode VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_CHILDREN = """
SELECT n.name, i.mode, i.uid, i.gid, i.mtime_ns, i.size, i.major, i.minor, i.digest, i.xattrs,
       i.target, i.flags, n.ino, n.kind, n.cut, l.ino
FROM scratch.raw_name n
LEFT JOIN scratch.raw_inode i ON i.ino = n.ino
LEFT JOIN scratch.raw_linked l ON l.ino = n.ino
WHERE n.parent = ? ORDER BY n.name
"""

_ROOT = """
SELECT x'', mode, uid, gid, mtime_ns, size, major, minor, digest, xattrs, target, flags
FROM scratch.raw_inode WHERE ino = ?
"""


class Staging:
    """Names and inodes that may still change.

    The last rows written wait in memory, where later entries find them first.
    """

    def __init__(self, db: sqlite3.Connection, batch_rows: int = BATCH_ROWS) -> None:
        self._batch_rows = batch_rows
        for statement in _TABLES:
            db.execute(statement)
        self._db = db
        self._last_ino = 0
        self._names: dict[tuple[int, bytes], Name] = {}
        self._inodes: dict[int, Item] = {}
        self._fresh: set[int] = set()
        implied = Item(b"", stat.S_IFDIR | 0o755, flags=schema.FLAG_IMPLIED)
        root = self.new_inode(implied)
        assert root == ROOT_INO

    def get(self, parent: int, name: bytes) -> Name | None:
        """What stands under a name, or ``None``."""
        found = self._names.get((parent, name))
        if found is not None or parent in self._fresh:
            return found
        query = "SELECT ino, kind, cut FROM scratch.raw_name WHERE parent = ? AND name = ?"
        row: Name | None = self._db.execute(query, (parent, name)).fetchone()
        return row

    def put(self, parent: int, name: bytes, value: Name) -> None:
        """Set what stands under a name."""
        self._names[parent, name] = value
        if len(self._names) + len(self._inodes) >= self._batch_rows:
            self.flush()

    def new_inode(self, item: Item) -> int:
        """Number an inode; ``item.name``, ``handle`` and ``link`` do not count."""
        self._last_ino += 1
        self._inodes[self._last_ino] = item
        if item.is_directory:
            self._fresh.add(self._last_ino)
        return self._last_ino

    def set_inode(self, ino: int, item: Item) -> None:
        """Replace the attributes of an inode."""
        self._inodes[ino] = item

    def target(self, ino: int) -> bytes:
        """The target of a symlink or pending link."""
        item = self._inodes.get(ino)
        if item is not None:
            return item.target
        query = "SELECT target FROM scratch.raw_inode WHERE ino = ?"
        target: bytes = self._db.execute(query, (ino,)).fetchone()[0]
        return target

    def mark_opaque(self, ino: int) -> None:
        """Hide what lower layers have in a directory."""
        self._db.execute("INSERT OR IGNORE INTO scratch.raw_opaque VALUES (?)", (ino,))

    def mark_linked(self, ino: int) -> None:
        """Say that an inode has, or had, more than one name."""
        self._db.execute("INSERT OR IGNORE INTO scratch.raw_linked VALUES (?)", (ino,))

    def flush(self) -> None:
        """Write what waits in memory."""
        self._db.executemany(
            _INSERT_INODE,
            [
                (
                    ino,
                    i.mode,
                    i.uid,
                    i.gid,
                    i.mtime_ns,
                    i.size,
                    i.major,
                    i.minor,
                    i.digest,
                    i.xattrs,
                    i.target,
                    i.flags,
                )
                for ino, i in self._inodes.items()
            ],
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO scratch.raw_name VALUES (?, ?, ?, ?, ?)",
            [(*key, *value) for key, value in self._names.items()],
        )
        self._names.clear()
        self._inodes.clear()
        self._fresh.clear()

    def root(self) -> Item:
        """The root directory, for :func:`catalog.emit.emit`; nothing waits in memory."""
        item = Item(*self._db.execute(_ROOT, (ROOT_INO,)).fetchone())
        return self._directory(item, ROOT_INO, cut=False)

    def children(self, directory: Item) -> list[Item]:
        """What a directory holds, ascending by name; whiteouts are devices 0:0."""
        rows = self._db.execute(_CHILDREN, (directory.handle,)).fetchall()
        return [self._item(row[:12], *row[12:]) for row in rows]

    def _item(
        self, row: tuple[Any, ...], ino: int, kind: int, cut: int, linked: int | None
    ) -> Item:
        if kind == NOTHING:
            return Item(row[0], stat.S_IFCHR)
        item = Item(*row)
        if kind == DIRECTORY:
            return self._directory(item, ino, cut=bool(cut))
        item.link = linked
        return item

    def _directory(self, item: Item, ino: int, *, cut: bool) -> Item:
        item.handle = ino
        query = "SELECT 1 FROM scratch.raw_opaque WHERE ino = ?"
        if cut:
            item.flags = schema.FLAG_OPAQUE  # what lower layers had is gone: nothing to inherit
        elif self._db.execute(query, (ino,)).fetchone():
            item.flags |= schema.FLAG_OPAQUE
        return item
