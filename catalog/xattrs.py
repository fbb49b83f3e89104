"""Sets of extended attributes: packed to compare them, stored once."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

    from catalog.model import Xattrs

_LENGTHS: Final = struct.Struct(">II")
_CACHED_SETS: Final = 4096


def pack(xattrs: Xattrs) -> bytes:
    """One value for a set: equal for equal sets, empty for none."""
    return b"".join(_LENGTHS.pack(len(n), len(v)) + n + v for n, v in xattrs)


def unpack(packed: bytes) -> Xattrs:
    """The inverse of :func:`pack`."""
    pairs = []
    at = 0
    while at < len(packed):
        name_size, value_size = _LENGTHS.unpack_from(packed, at)
        at += _LENGTHS.size
        name_end = at + name_size
        pairs.append((packed[at:name_end], packed[name_end : name_end + value_size]))
        at = name_end + value_size
    return tuple(pairs)


class XattrSets:
    """Numbers sets in the order of their first use and writes each once to ``main.xattr``.

    Memory is bounded: which sets are known is kept in SQLite, behind a small cache. (Signed
    images have a set of its own for every file.)
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._cache: dict[bytes, int] = {}
        self._count = 0
        db.execute("CREATE TABLE scratch.xattr_set (key BLOB PRIMARY KEY, id) WITHOUT ROWID")

    def set_id(self, packed: bytes) -> int:
        """The number of a set that is not empty, from 1."""
        key = hashlib.sha256(packed).digest()
        known = self._cache.get(key)
        if known is None:
            known = self._stored(key) or self._store(key, packed)
            if len(self._cache) >= _CACHED_SETS:
                self._cache.clear()
            self._cache[key] = known
        return known

    def _stored(self, key: bytes) -> int | None:
        query = "SELECT id FROM scratch.xattr_set WHERE key = ?"
        row = self._db.execute(query, (key,)).fetchone()
        return row[0] if row else None

    def _store(self, key: bytes, packed: bytes) -> int:
        self._count += 1
        self._db.execute("INSERT INTO scratch.xattr_set VALUES (?, ?)", (key, self._count))
        rows = [(self._count, name, value) for name, value in unpack(packed)]
        self._db.executemany("INSERT INTO main.xattr VALUES (?, ?, ?)", rows)
        return self._count
