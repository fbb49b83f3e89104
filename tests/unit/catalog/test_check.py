from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

import pytest

from catalog import check as checks
from catalog.check import check
from catalog.model import TreeKind
from tests.support.catalogs import (
    directory,
    file,
    hardlink,
    opaque,
    symlink,
    whiteout,
    write_layer,
)

if TYPE_CHECKING:
    from pathlib import Path

# The layer that is damaged below, by inode number: 1 /, 2 d, 3 d/e, 4 d/e/g, 5 d/f, 6 h (also
# d/i), 7 l, 8 w (a whiteout); contents 1 and 2 in object 1; xattr set 1 of d and set 2 of d/f.
XATTRS = ((b"user.a", b"1"), (b"user.b", b"2"))
LAYER = (
    directory(b"d", xattrs=XATTRS),
    file(b"d/e/g", b"body"),
    file(b"d/f", b"other body", xattrs=XATTRS[:1]),
    file(b"h"),
    hardlink(b"i", b"h"),
    symlink(b"l", b"target"),
    hardlink(b"p", b"lower"),
    whiteout(b"w"),
    opaque(b"d/e"),
)

DAMAGE = [
    # the tree
    ("UPDATE entry SET parent = 'x' WHERE name = x'66'", "entry X'66': a number is not"),
    ("UPDATE entry SET ino = 1.5 WHERE name = x'66'", "entry X'66': a number is not"),
    ("UPDATE entry SET parent = 99 WHERE name = x'68'", "entry X'68': its parent is no dir"),
    ("UPDATE entry SET parent = 5 WHERE name = x'68'", "entry X'68': its parent is no dir"),
    ("UPDATE entry SET ino = 99 WHERE name = x'6c'", "entry X'6C': its inode is not there"),
    ("INSERT INTO entry VALUES (1, x'7a', 1)", "entry X'7A': a name for the root"),
    ("INSERT INTO entry VALUES (1, x'7a', 3)", "directory 3: several names"),
    ("DELETE FROM entry WHERE name = x'6c'", "inode 7: no name"),
    ("INSERT INTO entry VALUES (2, x'7a', 6)", "inode 6: nlink is not"),
    ("UPDATE inode SET nlink = 7 WHERE ino = 6", "inode 6: nlink is not"),
    ("UPDATE inode SET nlink = 2 WHERE ino = 2", "directory 2: nlink is not"),
    ("UPDATE inode SET nlink = 9 WHERE ino = 3", "directory 3: nlink is not"),
    ("DELETE FROM symlink", "symlink 7: no target"),
    ("UPDATE symlink SET target = x'61'", "symlink 7: no target, or its size"),
    ("INSERT INTO symlink VALUES (5, x'61')", "inode 5: a target on what is no symlink"),
    ("INSERT INTO symlink VALUES (99, x'61')", "inode 99: a target on what is no symlink"),
    ("UPDATE inode SET uid = 1 WHERE ino = 3", "inode 3: implied, but with attributes"),
    ("UPDATE inode SET mode = 16832 WHERE ino = 3", "inode 3: implied, but with attributes"),
    ("UPDATE inode SET mtime_ns = 1 WHERE ino = 3", "inode 3: implied, but with attributes"),
    ("UPDATE inode SET xattr_id = 3 WHERE ino = 5", "inode 5: its xattr set is not there"),
    ("INSERT INTO xattr VALUES (3, x'61', x'')", "xattr set 3: no inode uses it"),
    (
        "UPDATE inode SET xattr_id = 3 - xattr_id WHERE xattr_id",
        "xattr set 1: not numbered in the order of first use",
    ),
    ("UPDATE pending_link SET parent = 5", "pending link X'70': its parent is no directory"),
    ("UPDATE pending_link SET name = x'68'", "pending link X'68': the name is there"),
    # bodies
    ("UPDATE inode SET content_id = 9 WHERE ino = 5", "inode 5: its content is not there"),
    ("UPDATE inode SET size = 9 WHERE ino = 5", "inode 5: its size is not its content's"),
    ("UPDATE inode SET content_id = 0, size = 0 WHERE ino = 5", "content 2: no inode uses it"),
    ("UPDATE content SET digest = zeroblob(32) WHERE id = 2", "content 2: out of order"),
    ("UPDATE content SET id = 3 WHERE id = 2", "content 3: out of order"),
    ("INSERT INTO object VALUES (2, x'" + "ff" * 32 + "', 1, 1)", "object 2: no extent uses it"),
    ("INSERT INTO object VALUES (2, zeroblob(32), 1, 1)", "object 2: out of order"),
    ("UPDATE object SET id = 2", "object 2: out of order"),
    ("INSERT INTO extent VALUES (9, 0, 1, 0, 1)", "content 9: it has extents, but is not there"),
    ("UPDATE extent SET object_id = 5", "content 1: an extent lies in an object that"),
    ("INSERT INTO extent VALUES (1, 1, 1, 0, 1)", "extents: extents of a content overlap"),
    ("UPDATE extent SET length = 99", "extents: an extent ends after its content"),
    ("UPDATE extent SET object_offset = 1048576", "extents: an extent ends after its object"),
    ("UPDATE extent SET length = 0", "extents: an extent"),
    ("UPDATE object SET size = 0", "object: an object has a size out of range"),
    ("UPDATE object SET digest = x'00'", "object: .* is no digest"),
    ("UPDATE content SET size = -1", "extents: a content has a size out of range"),
    # values
    ("UPDATE inode SET mode = 420 WHERE ino = 5", "inode: inode 5 contradicts itself"),
    ("UPDATE inode SET mode = 98765 WHERE ino = 5", "inode: inode 5 has a value out of range"),
    ("UPDATE inode SET uid = -1 WHERE ino = 5", "inode: inode 5 has a value out of range"),
    ("UPDATE inode SET gid = 'x' WHERE ino = 5", "inode: inode 5 has a value out of range"),
    ("UPDATE inode SET size = 7 WHERE ino = 2", "inode: inode 2 contradicts itself"),
    ("UPDATE inode SET flags = 1 WHERE ino = 5", "inode: inode 5 contradicts itself"),
    ("UPDATE inode SET flags = 4 WHERE ino = 2", "inode: inode 2 contradicts itself"),
    ("UPDATE inode SET major = 1 WHERE ino = 5", "inode: inode 5 contradicts itself"),
    ("UPDATE inode SET major = 4096 WHERE ino = 8", "inode: inode 8 contradicts itself"),
    ("UPDATE inode SET content_id = 1 WHERE ino = 2", "inode: inode 2 contradicts itself"),
    ("UPDATE entry SET name = x'2e2e' WHERE name = x'66'", "entry: .* is no file name"),
    ("UPDATE entry SET name = x'612f62' WHERE name = x'66'", "entry: .* is no file name"),
    ("UPDATE entry SET name = 'text' WHERE name = x'66'", "entry: .* is no file name"),
    ("UPDATE entry SET name = zeroblob(256) WHERE name = x'66'", "entry: .* is no file name"),
    ("UPDATE symlink SET target = zeroblob(6)", "symlink: a symlink's target is none"),
    ("UPDATE xattr SET name = x'00' WHERE set_id = 2", "xattr: an extended attribute"),
    (
        "UPDATE xattr SET name = CAST('user.overlay.x' AS BLOB) WHERE set_id = 2",
        "xattr: an extended attribute",
    ),
    ("UPDATE pending_link SET target = x'2f'", "pending links: .* is no file name"),
    ("UPDATE pending_link SET name = x'2f'", "pending links: .* is no file name"),
    # the whole
    (
        "DELETE FROM xattr WHERE name = CAST('user.b' AS BLOB)",
        "xattr set 2: equal to another one",
    ),
    ("UPDATE meta SET value = 99 WHERE key = 'inodes'", "meta: inodes is 99, not 8"),
    ("UPDATE meta SET value = 99 WHERE key = 'names'", "meta: names is 99, not 8"),
    ("UPDATE meta SET value = 99 WHERE key = 'contents'", "meta: contents is 99, not 2"),
    ("UPDATE meta SET value = 99 WHERE key = 'objects'", "meta: objects is 99, not 1"),
    ("UPDATE meta SET value = 9 WHERE key = 'content_bytes'", "meta: content_bytes is 9"),
    ("UPDATE meta SET value = 9 WHERE key = 'file_bytes'", "meta: file_bytes is 9, not 14"),
    ("DELETE FROM inode WHERE ino = 1", "walk: .* there is no root directory"),
    (
        "UPDATE entry SET ino = 15 - ino WHERE ino IN (7, 8)",
        "'l' is inode 8, and 7 is not met yet",
    ),
    ("UPDATE entry SET parent = 3 WHERE name = x'65'", "'d/f' is inode 5, and 3 is not met yet"),
    ("DELETE FROM entry WHERE name = x'77'", "a walk ends at inode 7"),
    ("INSERT INTO entry VALUES (3, x'7a', 2)", "walk: directory 2 is below directory 3"),
]


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    write_layer(tmp_path / "layer", LAYER)
    return tmp_path / "layer"


def damaged(path: Path, statements: str) -> list[str]:
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements.split(";"):
        db.execute(statement)
    db.close()
    return check(path)


def test_a_sound_layer_has_no_problems(layer: Path) -> None:
    assert check(layer) == []


@pytest.mark.parametrize(("statements", "expected"), DAMAGE)
def test_damage_is_named(layer: Path, statements: str, expected: str) -> None:
    problems = damaged(layer, statements)
    assert any(re.match(expected, line) for line in problems), problems


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("UPDATE inode SET mode = 8192 WHERE ino = 3", "inode 3: a whiteout in a root"),
        ("UPDATE inode SET flags = 1 WHERE ino = 2", "inode 2: opaque or implied in a root"),
        ("INSERT INTO pending_link VALUES (1, x'70', x'71')", "pending link X'70': in a root"),
    ],
)
def test_what_only_layers_have_is_a_problem_in_a_root(
    tmp_path: Path, statements: str, expected: str
) -> None:
    path = tmp_path / "root"
    write_layer(path, [directory(b"d"), file(b"d/f")], kind=TreeKind.ROOT)
    assert check(path) == []
    assert expected in damaged(path, statements)


def test_every_rule_is_broken_by_some_damage() -> None:
    expected = [regex for _, regex in DAMAGE]
    for violation, _ in checks._TREE_RULES + checks._BODY_RULES:
        kind, _, what = violation.partition("{}: ")
        assert any(
            text.startswith(kind) and what.startswith(text.partition(": ")[2]) for text in expected
        ), violation


def test_reports_stay_short(tmp_path: Path) -> None:
    write_layer(tmp_path / "layer", [file(b"%d" % number) for number in range(100)])
    problems = damaged(tmp_path / "layer", "UPDATE inode SET nlink = 9 WHERE ino > 1")
    assert len(problems) == checks.MAX_REPORTED


def test_a_damaged_page_is_found(layer: Path) -> None:
    raw = bytearray(layer.read_bytes())
    raw[4096 * 2 + 3] ^= 0xFF
    layer.write_bytes(raw)
    assert check(layer) != []


def test_what_is_no_catalog_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    assert len(check(tmp_path / "text")) == 1
    assert len(check(tmp_path / "missing")) == 1
