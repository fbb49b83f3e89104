"""Rendering: what is refused, what is the same, where things are."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from catalog import erofs
from catalog.erofs import disk
from catalog.errors import CatalogError, DamagedCatalog
from catalog.model import Entry, TreeKind
from catalog.reader import CatalogReader
from tests.support.catalogs import directory, file, hardlink, symlink, write_layer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

GOLDEN = "f63f756d3d03abcea12edfc484ea26f3a90b6d61ad97f6e28e80ad5517ace866"
TREE = [
    directory(b"d", mtime_ns=-1),
    *(file(b"d/%03d%s" % (n, b"n" * (n % 120)), b"%d" % n) for n in range(400)),
    hardlink(b"x-again", b"d/000"),
    symlink(b"link", b"d"),
]


def render(folder: Path, entries: Iterable[Entry], kind: TreeKind = TreeKind.ROOT) -> Path:
    path = folder / "catalog"
    write_layer(path, entries, kind=kind)
    with CatalogReader.open(path) as reader:
        erofs.render(reader, folder / "image")
    return folder / "image"


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    write_layer(tmp_path / "catalog", TREE, kind=TreeKind.ROOT)
    with CatalogReader.open(tmp_path / "catalog") as reader:
        made = erofs.render(reader, tmp_path / "image")
    raw = (tmp_path / "image").read_bytes()
    assert made == erofs.MetadataImage(f"sha256:{hashlib.sha256(raw).hexdigest()}", len(raw))
    assert (tmp_path / "image").stat().st_mode & 0o777 == 0o644


def test_the_same_tree_gives_the_same_bytes_in_whatever_order_it_was_told(tmp_path: Path) -> None:
    first = render(tmp_path, TREE).read_bytes()
    files = [entry for entry in TREE if not entry.target]
    random.Random(3).shuffle(files)
    again = render(tmp_path, [*files, hardlink(b"x-again", b"d/000"), symlink(b"link", b"d")])
    assert again.read_bytes() == first


def test_the_bytes_are_those_of_this_version_of_the_format(tmp_path: Path) -> None:
    """Nodes may build what a repository lacks: a changed layout needs a new name for the digest."""
    image = render(tmp_path, [directory(b"d"), file(b"d/f", b"body"), symlink(b"l", b"d/f")])
    assert hashlib.sha256(image.read_bytes()).hexdigest() == GOLDEN


def test_a_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(erofs.CannotRender, match="layer"):
        render(tmp_path, [file(b"a")], TreeKind.LAYER)
    assert not (tmp_path / "image").exists()


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (file(b"f", xattrs=((b"user.a", bytes(65536)),)), "f.*user.a.*65536"),
        (file(b"f", xattrs=tuple((b"user.%d" % n, bytes(60_000)) for n in range(5))), "attributes"),
        (Entry(b"f", mode=0o100644, size=(1 << 48) + 1, content=bytes(32)), "281474976710657"),
    ],
)
def test_what_no_image_can_hold_is_refused_by_name(tmp_path: Path, entry: Entry, why: str) -> None:
    with pytest.raises(erofs.CannotRender, match=why):
        render(tmp_path, [entry])
    assert [each.name for each in tmp_path.iterdir()] == ["catalog"]


def test_an_image_is_never_larger_than_the_limit(tmp_path: Path) -> None:
    """One set of attributes for many inodes: a small catalog that asks for a large image."""
    path = tmp_path / "catalog"
    large = tuple((b"user.%d" % n, bytes(65_000)) for n in range(4))
    files = (file(b"%05d" % n, xattrs=large if n == 0 else ()) for n in range(17_000))
    write_layer(path, files, kind=TreeKind.ROOT)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE inode SET xattr_id = 1")
    db.close()
    with (
        CatalogReader.open(path) as reader,
        pytest.raises(erofs.CannotRender, match="its image would have 4"),
    ):
        erofs.render(reader, tmp_path / "image")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE inode SET mode = 8192 WHERE ino = 3",  # a whiteout
        "UPDATE inode SET flags = 1 WHERE ino = 2",
        "UPDATE inode SET mode = 33188 WHERE ino = 1",
        "DELETE FROM inode WHERE ino = 1",
        "UPDATE entry SET ino = 2 WHERE name = x'6c696e6b'",  # two names of a directory
        "UPDATE entry SET parent = 3 WHERE name = x'6c696e6b'",  # below a file
        "UPDATE entry SET parent = 2, ino = 1 WHERE name = x'6c696e6b'",  # a cycle
        "UPDATE content SET size = size + 1",
        "UPDATE content SET digest = x'00'",
        "UPDATE symlink SET target = x'6161'",
        "UPDATE inode SET ino = 1099511627775 WHERE ino = 9",
        "UPDATE inode SET xattr_id = 'x' WHERE ino = 9",
    ],
)
def test_a_catalog_that_breaks_an_invariant_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "catalog"
    write_layer(path, TREE, kind=TreeKind.ROOT)
    with sqlite3.connect(path) as db:
        assert db.execute(statement).rowcount
    db.close()
    with CatalogReader.open(path) as reader, pytest.raises(DamagedCatalog):
        erofs.render(reader, tmp_path / "image")
    assert [each.name for each in tmp_path.iterdir()] == ["catalog"]


def test_an_older_image_stays_when_a_new_one_cannot_be_written(tmp_path: Path) -> None:
    image = render(tmp_path, TREE)
    before = image.read_bytes()
    with pytest.raises(erofs.CannotRender):
        render(tmp_path, [file(b"f", xattrs=((b"user.a", bytes(65536)),))])
    assert image.read_bytes() == before


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    write_layer(tmp_path / "catalog", TREE, kind=TreeKind.ROOT)
    with (
        CatalogReader.open(tmp_path / "catalog") as reader,
        pytest.raises(CatalogError, match="No such file or directory"),
    ):
        erofs.render(reader, tmp_path / "nowhere/image")


def test_what_a_directory_lists_lies_together(tmp_path: Path) -> None:
    image = render(tmp_path, [file(b"%c/%c/f" % (a, b)) for a in b"abc" for b in b"abc"])
    places = {path: node.nid for path, node in erofs.walk(image)}
    order = sorted(places, key=places.__getitem__)
    assert order[:7] == [b"", b"a", b"b", b"c", b"a/a", b"a/b", b"a/c"]


def test_no_inline_data_and_no_inode_crosses_a_block(tmp_path: Path) -> None:
    entries = [
        *(symlink(b"%04d" % n, b"t" * (1 + n * 7 % 4095)) for n in range(300)),
        *(file(b"d%d/%s" % (n, b"n" * (n % 250 + 1))) for n in range(300)),
    ]
    for _, node in erofs.walk(render(tmp_path, entries)):
        offset = node.nid * disk.SLOT % disk.BLOCK
        assert offset + disk.INODE.size <= disk.BLOCK
        if stat.S_ISLNK(node.mode) and node.size + disk.INODE.size <= disk.BLOCK:
            assert offset + disk.INODE.size + node.size <= disk.BLOCK


@pytest.mark.parametrize("size", range(2800, 4200, 57))
def test_a_root_directory_with_large_attributes_is_found(tmp_path: Path, size: int) -> None:
    xattrs = ((b"user.a", b"v" * size),)
    image = render(tmp_path, [directory(b"", xattrs=xattrs), file(b"f")])
    found = dict(erofs.walk(image))
    assert found[b""].xattrs == xattrs
    assert found.keys() == {b"", b"f"}


def test_more_sets_of_attributes_than_are_kept_in_memory_come_out_right(tmp_path: Path) -> None:
    values = {b"%03d" % n: b"%03d" % n * 20_000 for n in range(320)}
    entries = [file(name, xattrs=((b"user.a", value),)) for name, value in values.items()]
    again = [
        file(b"x-" + name, xattrs=entry.xattrs) for name, entry in zip(values, entries, strict=True)
    ]
    found = dict(erofs.walk(render(tmp_path, [*entries, *again])))
    for name, value in values.items():
        assert found[name].xattrs == found[b"x-" + name].xattrs == ((b"user.a", value),)
