"""Checking a whole catalog against every invariant that schema.sql states."""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING, Final

from catalog import rows, rules, schema
from catalog.errors import CatalogError, DamagedCatalog
from catalog.model import ROOT_INO, TreeKind
from catalog.reader import CatalogReader
from catalog.xattrs import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_REPORTED: Final = 10
"""Most violations of one rule that are reported."""

_TYPE: Final = "(i.mode & 61440)"
_DIR: Final = f"{_TYPE} = {stat.S_IFDIR}"
_LNK: Final = f"{_TYPE} = {stat.S_IFLNK}"
_REG: Final = f"{_TYPE} = {stat.S_IFREG}"
_WHITEOUT: Final = f"({_TYPE} = {stat.S_IFCHR} AND i.major = 0 AND i.minor = 0)"
_IMPLIED_MODE: Final = stat.S_IFDIR | 0o755

Rule = tuple[str, str]
"""A violation, with ``{}`` for what it is about, and what follows SELECT to find all of it."""

_TREE_RULES: Final[tuple[Rule, ...]] = (
    (
        "entry {}: a number is not an integer",
        "quote(name) FROM entry WHERE typeof(parent) <> 'integer' OR typeof(ino) <> 'integer'",
    ),
    (
        "entry {}: its parent is no directory",
        (
            "quote(e.name) FROM entry e LEFT JOIN inode i ON i.ino = e.parent "
            f"WHERE i.ino IS NULL OR NOT {_DIR}"
        ),
    ),
    (
        "entry {}: its inode is not there",
        "quote(e.name) FROM entry e LEFT JOIN inode i ON i.ino = e.ino WHERE i.ino IS NULL",
    ),
    ("entry {}: a name for the root", "quote(name) FROM entry WHERE ino = 1"),
    (
        "directory {}: several names",
        (
            f"i.ino FROM entry e JOIN inode i ON i.ino = e.ino WHERE {_DIR} "
            "GROUP BY i.ino HAVING count(*) > 1"
        ),
    ),
    (
        "inode {}: no name",
        "ino FROM inode WHERE ino <> 1 AND ino NOT IN (SELECT ino FROM entry)",
    ),
    (
        "inode {}: nlink is not the number of its names",
        (
            f"i.ino FROM inode i JOIN entry e ON e.ino = i.ino WHERE NOT {_DIR} "
            "GROUP BY i.ino HAVING count(*) <> i.nlink"
        ),
    ),
    (
        "directory {}: nlink is not 2 and its subdirectories",
        (
            "d.ino FROM inode d LEFT JOIN entry e ON e.parent = d.ino "
            f"LEFT JOIN inode i ON i.ino = e.ino AND {_DIR} "
            f"WHERE (d.mode & 61440) = {stat.S_IFDIR} "
            "GROUP BY d.ino HAVING count(i.ino) + 2 <> d.nlink"
        ),
    ),
    (
        "symlink {}: no target, or its size is not the target's",
        (
            f"i.ino FROM inode i LEFT JOIN symlink s ON s.ino = i.ino WHERE {_LNK} "
            "AND (s.target IS NULL OR length(s.target) <> i.size)"
        ),
    ),
    (
        "inode {}: a target on what is no symlink",
        (
            "s.ino FROM symlink s LEFT JOIN inode i ON i.ino = s.ino "
            f"WHERE i.ino IS NULL OR NOT {_LNK}"
        ),
    ),
    (
        "inode {}: implied, but with attributes",
        (
            f"i.ino FROM inode i WHERE i.flags & {schema.FLAG_IMPLIED} "
            f"AND (i.mode <> {_IMPLIED_MODE} OR i.uid OR i.gid OR i.mtime_ns OR i.xattr_id)"
        ),
    ),
    (
        "inode {}: its xattr set is not there",
        "ino FROM inode WHERE xattr_id AND xattr_id NOT IN (SELECT set_id FROM xattr)",
    ),
    (
        "xattr set {}: no inode uses it",
        "DISTINCT set_id FROM xattr WHERE set_id NOT IN (SELECT xattr_id FROM inode)",
    ),
    (
        "xattr set {}: not numbered in the order of first use",
        (
            "xattr_id FROM (SELECT xattr_id, row_number() OVER (ORDER BY min(ino)) AS place "
            "FROM inode WHERE xattr_id GROUP BY xattr_id) WHERE place <> xattr_id"
        ),
    ),
    (
        "pending link {}: its parent is no directory",
        (
            "quote(p.name) FROM pending_link p LEFT JOIN inode i ON i.ino = p.parent "
            f"WHERE i.ino IS NULL OR NOT {_DIR}"
        ),
    ),
    (
        "pending link {}: the name is there",
        "quote(p.name) FROM pending_link p JOIN entry e ON e.parent = p.parent AND e.name = p.name",
    ),
)

_ROOT_RULES: Final[tuple[Rule, ...]] = (
    ("inode {}: a whiteout in a root", f"i.ino FROM inode i WHERE {_WHITEOUT}"),
    ("inode {}: opaque or implied in a root", "ino FROM inode WHERE flags"),
    ("pending link {}: in a root", "quote(name) FROM pending_link"),
)

_BODY_RULES: Final[tuple[Rule, ...]] = (
    (
        "inode {}: its content is not there",
        "ino FROM inode WHERE content_id AND content_id NOT IN (SELECT id FROM content)",
    ),
    (
        "inode {}: its size is not its content's",
        "i.ino FROM inode i JOIN content c ON c.id = i.content_id WHERE c.size <> i.size",
    ),
    (
        "content {}: no inode uses it",
        "id FROM content WHERE id NOT IN (SELECT content_id FROM inode)",
    ),
    (
        "content {}: out of order",
        (
            "id FROM (SELECT id, digest, lag(digest) OVER (ORDER BY id) AS former, "
            "row_number() OVER (ORDER BY id) AS place FROM content) "
            "WHERE id <> place OR digest <= former"
        ),
    ),
    (
        "object {}: no extent uses it",
        "id FROM object WHERE id NOT IN (SELECT object_id FROM extent)",
    ),
    (
        "object {}: out of order",
        (
            "id FROM (SELECT id, digest, lag(digest) OVER (ORDER BY id) AS former, "
            "row_number() OVER (ORDER BY id) AS place FROM object) "
            "WHERE id <> place OR digest <= former"
        ),
    ),
    (
        "content {}: it has extents, but is not there",
        "DISTINCT content_id FROM extent WHERE content_id NOT IN (SELECT id FROM content)",
    ),
    (
        "content {}: an extent lies in an object that is not there",
        "DISTINCT content_id FROM extent WHERE object_id NOT IN (SELECT id FROM object)",
    ),
)

_COUNTS: Final = (
    ("inodes", "count(*) FROM inode"),
    ("names", "count(*) FROM entry"),
    ("contents", "count(*) FROM content"),
    ("objects", "count(*) FROM object"),
    ("content_bytes", "coalesce(sum(size), 0) FROM content"),
    ("file_bytes", f"coalesce(sum(i.size), 0) FROM inode i WHERE {_REG}"),
)


def check(path: Path) -> list[str]:
    """Look for everything that is wrong with a catalog.

    Returns:
        One line for each violation found, at most :data:`MAX_REPORTED` for a rule; empty when
        the catalog is sound. A file that is no catalog gives the one line that says so; the
        rules are only looked at when SQLite finds nothing wrong with the file itself.
    """
    try:
        with CatalogReader.open(path) as reader:
            return _structure(reader) or _Check(reader).run()
    except CatalogError as error:
        return [str(error)]


def _structure(reader: CatalogReader) -> list[str]:
    query = f"PRAGMA integrity_check({MAX_REPORTED})"
    return [line for (line,) in reader.query(query) if line != "ok"]


class _Check:
    def __init__(self, reader: CatalogReader) -> None:
        self._reader = reader
        self._problems: list[str] = []

    def run(self) -> list[str]:
        self._each("inode", rows.node_query("FROM inode i ORDER BY i.ino"), rows.node)
        self._each("entry", "SELECT name FROM entry", lambda row: rows.name(row[0]))
        self._each("symlink", "SELECT target FROM symlink", lambda row: rows.target(row[0]))
        self._each("xattr", "SELECT name, value FROM xattr", rows.xattr)
        self._each("object", "SELECT digest, size, stored_size FROM object", rows.object_ref)
        self._apply(_TREE_RULES)
        if self._reader.kind is TreeKind.ROOT:
            self._apply(_ROOT_RULES)
        self._apply(_BODY_RULES)
        self._pending()
        self._sets()
        self._counts()
        self._extents()
        self._walk()
        return self._problems

    def _each(self, what: str, query: str, parse: Callable[[tuple[object, ...]], object]) -> None:
        """Parse every row of a table as a reader would."""
        found = 0
        for row in self._reader.query(query):
            try:
                parse(row)
            except DamagedCatalog as error:
                self._problems.append(f"{what}: {error}")
                found += 1
                if found == MAX_REPORTED:
                    return

    def _apply(self, found_by: tuple[Rule, ...]) -> None:
        for violation, rest in found_by:
            query = f"SELECT {rest} LIMIT {MAX_REPORTED}"
            self._problems.extend(violation.format(row[0]) for row in self._reader.query(query))

    def _pending(self) -> None:
        with self._reported("pending links"):
            for _ in self._reader.pending_links():
                pass

    def _sets(self) -> None:
        """No two sets of attributes are equal."""
        query = "SELECT xattr_id, min(ino) FROM inode WHERE xattr_id GROUP BY xattr_id"
        seen: set[bytes] = set()
        with self._reported("xattrs"):
            for set_id, ino in self._reader.query(query):
                packed = pack(self._reader.xattrs(ino))
                if packed in seen:
                    self._problems.append(f"xattr set {set_id}: equal to another one")
                seen.add(packed)

    def _counts(self) -> None:
        summary = self._reader.summary()
        for name, rest in _COUNTS:
            ((actual,),) = self._reader.query(f"SELECT {rest}")
            if actual != getattr(summary, name):
                self._problems.append(f"meta: {name} is {getattr(summary, name)}, not {actual}")

    def _extents(self) -> None:
        with self._reported("extents"):
            for _ in self._reader.contents():
                pass

    def _walk(self) -> None:
        """Inodes are numbered as a walk meets them: this is also what proves reachability."""
        last = ROOT_INO - 1
        with self._reported("walk"):
            for path, node in self._reader.walk():
                if node.ino > last + 1:
                    line = f"{rules.shown(path)} is inode {node.ino}, and {last + 1} is not met yet"
                    self._problems.append(line)
                    return
                last = max(last, node.ino)
            if last != self._reader.summary().inodes:
                self._problems.append(f"a walk ends at inode {last}")

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        except DamagedCatalog as error:
            self._problems.append(f"{what}: {error}")
