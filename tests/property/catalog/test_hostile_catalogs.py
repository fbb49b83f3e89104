"""Catalogs with bytes or rows that no writer made."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.check import check
from catalog.errors import CatalogError, DamagedCatalog
from catalog.merge import merge
from catalog.reader import CatalogReader
from tests.support.catalogs import (
    OBJECT,
    directory,
    file,
    hardlink,
    opaque,
    symlink,
    whiteout,
    write_layer,
)

COLUMNS = {
    "inode": [
        "ino",
        "mode",
        "uid",
        "gid",
        "mtime_ns",
        "size",
        "nlink",
        "major",
        "minor",
        "content_id",
        "xattr_id",
        "flags",
    ],
    "entry": ["parent", "name", "ino"],
    "symlink": ["ino", "target"],
    "xattr": ["set_id", "name", "value"],
    "pending_link": ["parent", "name", "target"],
    "object": ["id", "digest", "size", "stored_size"],
    "content": ["id", "digest", "size"],
    "extent": ["content_id", "offset", "object_id", "object_offset", "length"],
    "meta": ["key", "value"],
}
CELLS = st.sampled_from([(table, column) for table in COLUMNS for column in COLUMNS[table]])
VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-2, 12),
    st.sampled_from([0o40755, 0o120777, 0o100644, 0o020000]),
    st.none(),
    st.floats(),
    st.binary(max_size=40),
    st.sampled_from([b"..", b"a/b", b"/", b"\0", b"d", b"", b"x" * 300]),
    st.text(max_size=5),
    st.just("\udcff"),
)


@cache
def sound() -> bytes:
    """A small layer with everything in it."""
    xattrs = ((b"security.capability", b"\1\0"), (b"user.a", b""))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "layer"
        entries = [
            directory(b"d", xattrs=xattrs),
            file(b"d/f", b"body", xattrs=xattrs),
            file(b"d/e/g", b"other"),
            *(file(b"d/many/%d" % index, b"%d" % index) for index in range(60)),
            symlink(b"l", b"d/e"),
            hardlink(b"l/h", b"d/f"),
            hardlink(b"p", b"lower/file"),
            whiteout(b"w"),
            opaque(b"d/e"),
        ]
        write_layer(path, entries)
        return path.read_bytes()


def read_everything(path: Path) -> None:
    """Call every method of a reader, as someone who serves the tree would."""
    with CatalogReader.open(path) as reader:
        reader.summary()
        list(reader.objects())
        for number, content in reader.contents():
            assert reader.content(number).digest == content.digest
            reader.content_id(content.digest)
        reader.contents_in(OBJECT)
        reader.object(OBJECT)
        list(reader.pending_links())
        reader.resolve(b"d/e/g")
        for ino in range(15):
            node = reader.node(ino)
            reader.xattrs(ino)
            reader.lookup(ino, b"d")
            for entry in reader.readdir(ino, limit=3):
                reader.readdir(ino, entry.cookie, limit=2)
            if node is not None and node.mode & 0o170000 == 0o120000:
                reader.readlink(ino)
        for _ in reader.walk():
            pass


def use(path: Path) -> None:
    """Read, check and merge a catalog; only the errors of this library may come of it."""
    with contextlib.suppress(DamagedCatalog):
        read_everything(path)
    assert all(isinstance(line, str) for line in check(path))
    try:
        with CatalogReader.open(path) as reader:
            merge([reader, reader], path.with_name("root"))
    except CatalogError:
        assert [each.name for each in path.parent.iterdir()] == [path.name]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_flipped_bytes_are_damage_or_another_tree(data: st.DataObject) -> None:
    raw = bytearray(sound())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(raw), len(raw), len(raw) - 4096, 4096, 100, 0]))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "layer"
        path.write_bytes(raw[:end])
        use(path)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(CELLS, VALUES, st.integers(0, 70)), min_size=1, max_size=4))
def test_values_that_no_writer_wrote_are_damage_or_another_tree(
    changes: list[tuple[tuple[str, str], object, int]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "layer"
        path.write_bytes(sound())
        with sqlite3.connect(path, isolation_level=None) as db:
            for (table, column), value, row in changes:
                change(db, table, column, value, row)
        db.close()
        use(path)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2000))
def test_bytes_that_are_no_catalog_are_damage(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "layer"
        path.write_bytes(raw)
        assert len(check(path)) == 1


def change(db: sqlite3.Connection, table: str, column: str, value: object, row: int) -> None:
    """Set one column of the n-th row, if SQLite lets us."""
    keys = {"entry": "parent, name", "extent": "content_id, offset", "meta": "key"}
    keys |= {"xattr": "set_id, name", "pending_link": "parent, name"}
    key = keys.get(table, "rowid")
    pick = f"SELECT {key} FROM {table} LIMIT 1 OFFSET {row} % (SELECT count(*) FROM {table})"
    try:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE ({key}) = ({pick})", (value,))
    except (sqlite3.Error, UnicodeEncodeError):
        return
