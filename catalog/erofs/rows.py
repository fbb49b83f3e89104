"""What an image is made of, read from a catalog in bulk: one query for all names and inodes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from catalog import rows as catalog_rows
from catalog.erofs import attributes
from catalog.errors import DamagedCatalog
from catalog.model import ROOT_INO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.model import Xattrs
    from catalog.reader import CatalogReader

Row = tuple[Any, ...]
"""One name and its inode; see the column numbers below."""

INO: Final = 0
MODE: Final = 1
SIZE: Final = 5
MAJOR: Final = 7
MINOR: Final = 8
CONTENT_ID: Final = 9
XATTR_ID: Final = 10
FLAGS: Final = 11
PARENT: Final = 12
NAME: Final = 13
DIGEST: Final = 14
CONTENT_SIZE: Final = 15

_ROOT: Final = ", 0, x''{more} FROM inode i {join} WHERE i.ino = ?"
_NAMES: Final = (
    ", e.parent, e.name{more} FROM entry e LEFT JOIN inode i ON i.ino = e.ino {join} "
    "ORDER BY e.parent, e.name"
)
_BARE: Final = {"more": "", "join": ""}
_BODIES: Final = {
    "more": ", c.digest, c.size",
    "join": "LEFT JOIN content c ON c.id = i.content_id",
}
_QUERIES: Final = {
    bodies: [catalog_rows.node_query(query.format(**parts)) for query in (_ROOT, _NAMES)]
    for bodies, parts in ((False, _BARE), (True, _BODIES))
}
_LAST: Final = "SELECT max(ino) FROM inode"
_CHILDREN: Final = "SELECT name, ino FROM entry WHERE parent = ? ORDER BY name"
_XATTRS: Final = "SELECT name, value FROM xattr WHERE set_id = ? ORDER BY name"
_LEAST_ROW_BYTES: Final = 12
_CACHED_BYTES: Final = 16 << 20


def last_ino(reader: CatalogReader) -> int:
    """The largest inode number: no larger than the catalog's size lets it be.

    Raises:
        DamagedCatalog: it is.
    """
    ((last,),) = reader.query(_LAST)
    if type(last) is not int or not ROOT_INO <= last <= reader.file_bytes // _LEAST_ROW_BYTES:
        raise DamagedCatalog(f"catalog {reader.path}: inodes are not numbered from 1")
    return last


def scan(reader: CatalogReader, *, bodies: bool) -> Iterator[Row]:
    """The root, then every name by directory and name: as no catalog was ever checked.

    A directory's number is larger than its parent's, so its own name comes before the names in
    it. An inode with several names comes several times.

    Args:
        reader: of the tree.
        bodies: with the columns of a file's content.
    """
    root, names = _QUERIES[bodies]
    return itertools.chain(reader.query(root, ROOT_INO), reader.query(names))


def children(reader: CatalogReader, ino: int) -> Iterator[tuple[bytes, int]]:
    """Names of one directory that was scanned, ascending, and their inodes.

    Raises:
        DamagedCatalog: an inode is no number, though it equals one to SQLite.
    """
    for name, child in reader.query(_CHILDREN, ino):
        if type(child) is not int:
            raise DamagedCatalog(f"entry of directory {ino}: a number is not an integer")
        yield name, child


class EncodedXattrs:
    """Attributes as they lie behind inodes, by set and type of file; some are kept in memory."""

    def __init__(self, reader: CatalogReader) -> None:
        self._reader = reader
        self._known: dict[tuple[int, int], bytes] = {}
        self._bytes = 0

    def entries(self, xattr_id: int, mode: int) -> bytes:
        """The entries of a set for an inode; empty for set 0, or when none is kept.

        Raises:
            CannotRender: a value is too long.
            DamagedCatalog: the set is none.
        """
        if not xattr_id:
            return b""
        key = xattr_id, mode & 0o170000
        found = self._known.get(key)
        if found is None:
            found = attributes.encode(self._read(xattr_id), mode)
            self._keep(key, found)
        return found

    def _read(self, xattr_id: int) -> Xattrs:
        found: list[tuple[bytes, bytes]] = []
        for row in self._reader.query(_XATTRS, xattr_id):
            pair = catalog_rows.xattr(row)
            if found and pair[0] <= found[-1][0]:
                raise DamagedCatalog(f"xattrs of set {xattr_id} are out of order")
            found.append(pair)
        return tuple(found)

    def _keep(self, key: tuple[int, int], found: bytes) -> None:
        if self._bytes > _CACHED_BYTES:
            self._known.clear()
            self._bytes = 0
        self._known[key] = found
        self._bytes += len(found)
