"""Reading a catalog that may come from anywhere.

The file is opened read-only and immutable, and only when its schema is exactly ours; every value
is checked when it is read. Whatever the file holds, methods answer or raise
:class:`~catalog.errors.DamagedCatalog`, in time bounded by the size of the file.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import stat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from catalog import rows, rules, schema
from catalog.errors import CatalogError, DamagedCatalog
from catalog.model import (
    MAX_PATH_DEPTH,
    ROOT_INO,
    CatalogSummary,
    Content,
    ContentRef,
    DirEntry,
    Node,
    ObjectRef,
    TreeKind,
)
from catalog.search import position, search

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from catalog.model import Xattrs

_MAX_VALUE_BYTES: Final = 1 << 20
_CACHE_KIB: Final = 8 << 10
_PAGE_ROWS: Final = 1024
_KNOWN_POSITIONS: Final = 1024
_MAX_NUMBER: Final = 1 << 32  # of directories and contents, where they are listed
_MAX_REFS: Final = 1 << 20  # an object has no more bytes

# SQLite puts bytes of the file into its messages: those that are no UTF-8 fail in Python.
_FOREIGN: Final = (sqlite3.Error, UnicodeDecodeError)

_NODE = rows.node_query("FROM inode i WHERE i.ino = ?")
_LOOKUP = rows.node_query(
    "FROM entry e JOIN inode i ON i.ino = e.ino WHERE e.parent = ? AND e.name = ?"
)
_NAMES = rows.node_query(
    ", e.name FROM entry e LEFT JOIN inode i ON i.ino = e.ino "
    "WHERE e.parent = ? AND e.name > ? ORDER BY e.name LIMIT ?"
)
_NAMES_WITH = rows.node_query(
    ", e.name FROM entry e JOIN inode i ON i.ino = e.ino WHERE instr(e.name, ?) > 0"
)
_BY_DIRECTORY = (
    "SELECT e.parent, i.content_id FROM entry e JOIN inode i ON i.ino = e.ino "
    "WHERE substr(e.name, ?) = ? AND i.content_id != 0 "
    "AND typeof(i.content_id) = 'integer' AND typeof(e.parent) = 'integer' "
    "ORDER BY e.parent, e.name"
)
_NAME_AT = "SELECT name FROM entry WHERE parent = ? ORDER BY name LIMIT 1 OFFSET ?"
_READLINK = "SELECT target FROM symlink WHERE ino = ?"
_XATTRS = (
    "SELECT x.name, x.value FROM inode i JOIN xattr x ON x.set_id = i.xattr_id "
    "WHERE i.ino = ? ORDER BY x.name"
)
_CONTENT = "SELECT digest, size FROM content WHERE id = ?"
_EXTENTS = (
    "SELECT e.offset, e.length, o.digest, e.object_offset, o.size "
    "FROM extent e LEFT JOIN object o ON o.id = e.object_id "
    "WHERE e.content_id = ? ORDER BY e.offset"
)
_OBJECT = "SELECT digest, size, stored_size FROM object WHERE id = ?"
_CONTENTS_IN = (
    "SELECT e.offset, e.length, o.digest, e.object_offset, o.size, c.id, c.digest, c.size "
    "FROM (SELECT * FROM extent WHERE object_id = ? LIMIT ?) e "
    "LEFT JOIN object o ON o.id = e.object_id LEFT JOIN content c ON c.id = e.content_id "
    "ORDER BY e.object_offset, e.content_id, e.offset"
)
_ALL_CONTENTS = (
    "SELECT c.id, c.digest, c.size, e.offset, e.length, o.digest, e.object_offset, o.size "
    "FROM content c LEFT JOIN extent e ON e.content_id = c.id "
    "LEFT JOIN object o ON o.id = e.object_id ORDER BY c.id, e.offset"
)
_ALL_OBJECTS = "SELECT digest, size, stored_size FROM object ORDER BY id"
_PENDING = "SELECT parent, name, target FROM pending_link ORDER BY parent, name"


class CatalogReader:
    """One open catalog; a context manager.

    For one thread at a time, but not bound to the thread that opened it. Iterators read as they
    go: do not use them after :meth:`close`.

    Attributes:
        path: the file.
        file_bytes: its size.
    """

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        """Use :meth:`open`."""
        self._db = db
        self.path = path
        self._execute = db.cursor().execute
        self.file_bytes = path.stat().st_size
        self._after: dict[tuple[int, int], bytes] = {}
        self._summary = self._read_summary()

    @classmethod
    def open(cls, path: Path) -> CatalogReader:
        """Open a file that does not change while it is open.

        Raises:
            DamagedCatalog: it is no catalog, or one of another version.
            CatalogError: it cannot be read.
        """
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise CatalogError(f"catalog {path}: {error.strerror}") from error
        with contextlib.ExitStack() as stack, damage(path):
            uri = path.absolute().as_uri() + "?mode=ro&immutable=1"
            db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            stack.callback(db.close)
            _harden(db)
            _check_identity(db, path)
            reader = cls(db, path)
            stack.pop_all()
        return reader

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def kind(self) -> TreeKind:
        """What the tree is."""
        return self._summary.kind

    def summary(self) -> CatalogSummary:
        """The counts that the writer recorded."""
        return self._summary

    # -- the tree

    def node(self, ino: int) -> Node | None:
        """The inode of a number, or ``None``."""
        row = self._one(_NODE, ino)
        return rows.node(row) if row is not None else None

    def lookup(self, parent: int, name: bytes) -> Node | None:
        """What a directory holds under a name, or ``None``; whiteouts are answered as nodes."""
        row = self._one(_LOOKUP, parent, name)
        return rows.below(parent, rows.node(row)) if row is not None else None

    def readdir(self, ino: int, after: int = 0, limit: int = _PAGE_ROWS) -> list[DirEntry]:
        """Names of a directory, ascending, without ``.`` and ``..``.

        Args:
            ino: the directory; what is none has no names.
            after: cookie of the entry to go on after; 0 is the beginning. Cookies are the same
                in every process that reads this catalog.
            limit: most entries to answer, at least 1.
        """
        name = self._name_at(ino, after)
        if name is None:
            return []
        entries = []
        for cookie, row in enumerate(self.query(_NAMES, ino, name, limit), after + 1):
            following = rows.name(row[12])
            if following <= name:
                raise DamagedCatalog(f"catalog {self.path}: names are out of order")
            name = following
            entries.append(DirEntry(name, rows.below(ino, rows.node(row[:12])), cookie))
        if len(entries) == limit:
            self._remember(ino, entries[-1])
        return entries

    def names_with(self, part: bytes) -> Iterator[tuple[bytes, Node]]:
        """Every (name, node), of any directory, whose name has these bytes in it; looks at all."""
        for row in self.query(_NAMES_WITH, part):
            yield rows.name(row[12]), rows.node(row[:12])

    def contents_by_directory(self, suffix: bytes) -> Iterator[tuple[int, int]]:
        """(directory, content) of files with a body, by directory and name; looks at all names.

        Args:
            suffix: of the names that are wanted, at least one byte.
        """
        for directory, content_id in self.query(_BY_DIRECTORY, -len(suffix), suffix):
            if not 0 < directory < _MAX_NUMBER or not 0 < content_id < _MAX_NUMBER:
                raise DamagedCatalog(f"catalog {self.path}: numbers are out of range")
            yield directory, content_id

    def readlink(self, ino: int) -> bytes:
        """The target of a symlink.

        Raises:
            DamagedCatalog: there is no target for this inode.
        """
        row = self._one(_READLINK, ino)
        return rows.target(row[0] if row is not None else None)

    def xattrs(self, ino: int) -> Xattrs:
        """Extended attributes of an inode, ascending by name.

        What only overlayfs needs (an opaque directory's mark) is not among them: see
        :attr:`Node.opaque`.
        """
        found: list[tuple[bytes, bytes]] = []
        for row in self.query(_XATTRS, ino):
            pair = rows.xattr(row)
            if found and pair[0] <= found[-1][0]:
                raise DamagedCatalog(f"catalog {self.path}: xattrs of {ino} are out of order")
            found.append(pair)
        return tuple(found)

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Every (path, node), the root (``b""``) first, depth first in name order.

        Memory: one page of names for each directory on the path.

        Raises:
            DamagedCatalog: directories are not in walking order (a cycle, for instance).
        """
        root = self.node(ROOT_INO)
        if root is None or not stat.S_ISDIR(root.mode):
            raise DamagedCatalog(f"catalog {self.path}: there is no root directory")
        yield b"", root
        last = ROOT_INO
        stack = [(b"", self._names(ROOT_INO))]
        while stack:
            prefix, names = stack[-1]
            entry = next(names, None)
            if entry is None:
                stack.pop()
                continue
            path = prefix + entry.name
            yield path, entry.node
            if stat.S_ISDIR(entry.node.mode):
                # Numbers ascend in walking order, so no directory can come twice.
                if entry.node.ino <= last or len(stack) >= MAX_PATH_DEPTH:
                    raise DamagedCatalog(f"directory {rules.shown(path)} is out of order")
                last = entry.node.ino
                stack.append((path + b"/", self._names(last)))

    def resolve(self, path: bytes) -> Node | None:
        """The node at a path (``b""`` is the root), or ``None``; symlinks are not followed."""
        found = self.node(ROOT_INO)
        for part in path.split(b"/") if path else ():
            if found is None:
                return None
            found = self.lookup(found.ino, part)
        return found

    def pending_links(self) -> Iterator[tuple[int, bytes, bytes]]:
        """A layer's hard links to files of lower layers: (directory, name, path of the file).

        They are no names of this tree until the layers are merged.
        """
        for parent, name, path in self.query(_PENDING):
            if type(parent) is not int:
                raise DamagedCatalog(f"catalog {self.path}: a pending link without directory")
            yield parent, rows.name(name), rows.path(path)

    # -- contents and objects

    def content(self, content_id: int) -> Content:
        """A content by its number.

        Raises:
            DamagedCatalog: there is none.
        """
        row = self._one(_CONTENT, content_id)
        if row is None:
            raise DamagedCatalog(f"catalog {self.path} has no content {content_id}")
        digest, size = row
        return rows.content(digest, size, self.query(_EXTENTS, content_id))

    def content_id(self, digest: bytes) -> int | None:
        """The number of a content, or ``None``."""
        return position(digest, self._summary.contents, self._content_digest)

    def content_size(self, digest: bytes) -> int | None:
        """Bytes of a content, or ``None``; sooner told than where they are."""
        number = self.content_id(digest)
        if number is None:
            return None
        found, size = self._one(_CONTENT, number)
        return rows.content(found, size, ()).size

    def digests_from(self, first: bytes, limit: int) -> list[bytes]:
        """Digests of contents from ``first`` (32 bytes) on, ascending, at most ``limit``."""
        count = self._summary.contents
        number, _ = search(first, count, self._content_digest)
        return [self._content_digest(n) for n in range(number, min(number + limit, count + 1))]

    def object(self, digest: bytes) -> ObjectRef | None:
        """A stored object by its digest, or ``None``."""
        found = self._object_id(digest)
        return rows.object_ref(self._one(_OBJECT, found)) if found is not None else None

    def contents_in(self, object_digest: bytes) -> list[ContentRef]:
        """What lies in an object, ascending by its place there; empty if it is not known."""
        found = self._object_id(object_digest)
        if found is None:
            return []
        refs = []
        for row in self.query(_CONTENTS_IN, found, _MAX_REFS):
            extent = rows.extent(row[:5])
            content_id, digest, size = row[5:]
            whole = rows.content(digest, size, [row[:5]])
            refs.append(ContentRef(content_id, whole.digest, whole.size, extent))
        return refs

    def contents(self) -> Iterator[tuple[int, Content]]:
        """Every (number, content), ascending by number and digest."""
        last = 0
        for number, group in itertools.groupby(self.query(_ALL_CONTENTS), itemgetter(0)):
            if type(number) is not int or number <= last:
                raise DamagedCatalog(f"catalog {self.path}: contents are out of order")
            last = number
            yield number, _whole(group)

    def objects(self) -> Iterator[ObjectRef]:
        """Every object, ascending by digest."""
        last = b""
        for row in self.query(_ALL_OBJECTS):
            ref = rows.object_ref(row)
            if ref.digest <= last:
                raise DamagedCatalog(f"catalog {self.path}: objects are out of order")
            last = ref.digest
            yield ref

    # -- queries

    def query(self, query: str, *values: int | bytes) -> Iterator[Any]:
        """The rows of a constant SELECT, as they are: for this library, which checks them.

        They come one by one, so that whoever sees them out of order can stop: in a damaged file
        they may have no end.

        Raises:
            DamagedCatalog: SQLite finds the file damaged.
        """
        try:
            for row in self._db.execute(query, values):  # noqa: UP028 - it would close the cursor
                yield row
        except _FOREIGN as error:
            raise self._damaged(error) from error
        except OverflowError:
            return  # a number that no row can have

    def _one(self, query: str, *values: int | bytes) -> Any:
        try:
            return self._execute(query, values).fetchone()
        except _FOREIGN as error:
            raise self._damaged(error) from error
        except OverflowError:
            return None  # a number that no row can have

    def _names(self, ino: int) -> Iterator[DirEntry]:
        after = 0
        while page := self.readdir(ino, after):
            yield from page
            after = page[-1].cookie
            if len(page) < _PAGE_ROWS:
                return

    def _name_at(self, ino: int, cookie: int) -> bytes | None:
        """The name with a cookie; empty for the beginning, ``None`` after the end."""
        if cookie <= 0:
            return b""
        known = self._after.get((ino, cookie))
        if known is not None:
            return known
        row = self._one(_NAME_AT, ino, cookie - 1)
        return rows.name(row[0]) if row is not None else None

    def _remember(self, ino: int, entry: DirEntry) -> None:
        """Keep where a page ended, so that the next one does not count from the beginning."""
        if len(self._after) >= _KNOWN_POSITIONS:
            self._after.clear()
        self._after[ino, entry.cookie] = entry.name

    def _content_digest(self, number: int) -> bytes:
        row = self._one(_CONTENT, number)
        return rows.digest(row[0] if row is not None else None)

    def _object_digest(self, number: int) -> bytes:
        row = self._one(_OBJECT, number)
        return rows.digest(row[0] if row is not None else None)

    def _object_id(self, digest: bytes) -> int | None:
        return position(digest, self._summary.objects, self._object_digest)

    def _read_summary(self) -> CatalogSummary:
        values = dict(self.query("SELECT key, value FROM meta LIMIT 100"))
        try:
            kind = TreeKind(values.pop("kind"))
            if not all(type(n) is int and n >= 0 for n in values.values()):
                raise DamagedCatalog(f"catalog {self.path}: its counts are out of range")
            return CatalogSummary(kind, **values)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedCatalog(f"catalog {self.path} does not say what it is") from error

    def _damaged(self, error: Exception) -> DamagedCatalog:
        return DamagedCatalog(f"catalog {self.path}: {error}")


@contextlib.contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn what SQLite raises inside the block into :class:`DamagedCatalog` about ``path``."""
    try:
        yield
    except _FOREIGN as error:
        raise DamagedCatalog(f"catalog {path}: {error}") from error


def _whole(group: Iterator[Any]) -> Content:
    """A content of its rows, one for each extent; one without an extent when it has none."""
    first = next(group)
    extents = (row[3:] for row in itertools.chain([first], group) if row[3] is not None)
    return rows.content(first[1], first[2], extents)


def _harden(db: sqlite3.Connection) -> None:
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    db.execute("PRAGMA query_only = ON")
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")


def _check_identity(db: sqlite3.Connection, path: Path) -> None:
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    if application_id != schema.APPLICATION_ID:
        raise DamagedCatalog(f"{path} is no catalog")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != schema.USER_VERSION:
        raise DamagedCatalog(f"catalog {path} has version {version}, not {schema.USER_VERSION}")
    if schema.found(db) != schema.expected():
        raise DamagedCatalog(f"catalog {path} has tables that no catalog has")
