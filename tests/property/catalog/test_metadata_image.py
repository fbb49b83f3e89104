"""Metadata images of generated trees, and of catalogs and images that nobody wrote."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import erofs
from catalog.errors import CatalogError
from catalog.model import Entry, TreeKind
from catalog.reader import CatalogReader
from tests.property.catalog.test_hostile_catalogs import CELLS, VALUES, change
from tests.support.catalogs import directory, file, hardlink, symlink, write_layer
from tests.support.generated_trees import CAPABILITY, TREES, write_root
from tests.support.metadata_image import kept, owner

if TYPE_CHECKING:
    from catalog.erofs import ImageNode
    from catalog.model import Node

XATTRS = ((b"security.capability", CAPABILITY), (b"user.a", b"x" * 5000))
SOUND = [
    directory(b"d", xattrs=XATTRS),
    file(b"d/f", b"body", xattrs=XATTRS),
    file(b"d/empty"),
    *(file(b"d/many/%d%s" % (index, b"x" * 100), b"%d" % index) for index in range(60)),
    symlink(b"l", b"d/e"),
    symlink(b"long", b"t" * 4095),
    Entry(b"null", mode=stat.S_IFCHR | 0o666, rdev=(1, 3)),
    hardlink(b"h", b"d/f"),
]


def described(reader: CatalogReader, node: Node) -> tuple[object, ...]:
    """What an image should say of a node."""
    content = reader.content(node.content_id).digest if node.content_id else None
    is_link = stat.S_ISLNK(node.mode)
    return (
        *(node.mode, owner(node.uid), owner(node.gid), node.mtime_ns, node.nlink, node.rdev),
        0 if stat.S_ISDIR(node.mode) else node.size,
        content,
        reader.readlink(node.ino) if is_link else b"",
        kept(reader.xattrs(node.ino), node.mode),
    )


def seen(node: ImageNode) -> tuple[object, ...]:
    """The same of an image's node."""
    return (
        *(node.mode, node.uid, node.gid, node.mtime_ns, node.nlink, node.rdev),
        0 if stat.S_ISDIR(node.mode) else node.size,
        *(node.content, node.target, node.xattrs),
    )


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_an_image_read_back_is_the_tree_of_the_catalog(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_root(folder / "root", entries)
        with CatalogReader.open(folder / "root") as reader:
            made = erofs.render(reader, folder / "image")
            wanted = [(path, described(reader, node)) for path, node in reader.walk()]
            inodes = [node.ino for _, node in reader.walk()]
        assert made.size == (folder / "image").stat().st_size
        found = list(erofs.walk(folder / "image"))
        assert [(path, seen(node)) for path, node in found] == wanted
        same = dict(zip(inodes, (node.nid for _, node in found), strict=True))
        assert [same[ino] for ino in inodes] == [node.nid for _, node in found]
        assert len(set(same.values())) == len(same)
        erofs.check_superblock(folder / "image")


@cache
def sound(what: str) -> bytes:
    """A small root and its image."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_layer(folder / "root", SOUND, kind=TreeKind.ROOT)
        with CatalogReader.open(folder / "root") as reader:
            erofs.render(reader, folder / "image")
        return (folder / what).read_bytes()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(CELLS, VALUES, st.integers(0, 70)), min_size=1, max_size=4))
def test_a_catalog_that_no_writer_wrote_gives_an_error_or_a_sound_image(
    changes: list[tuple[tuple[str, str], object, int]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "root"
        path.write_bytes(sound("root"))
        with sqlite3.connect(path, isolation_level=None) as db:
            for (table, column), value, row in changes:
                change(db, table, column, value, row)
        db.close()
        render_and_read(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_catalog_with_flipped_bytes_gives_an_error_or_a_sound_image(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "root"
        path.write_bytes(flipped(data, sound("root")))
        render_and_read(path)


def render_and_read(path: Path) -> None:
    """What a render of this catalog leaves behind is an image that reads well, or nothing."""
    image = path.with_name("image")
    try:
        with CatalogReader.open(path) as reader:
            erofs.render(reader, image)
    except CatalogError:
        assert [each.name for each in path.parent.iterdir()] == [path.name]
    else:
        assert list(erofs.walk(image))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_flipped_bytes_of_an_image_are_damage_or_another_tree(data: st.DataObject) -> None:
    raw = flipped(data, sound("image"))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "image"
        path.write_bytes(raw)
        with contextlib.suppress(CatalogError):
            erofs.check_superblock(path)
        count = 0
        with contextlib.suppress(CatalogError):
            for _ in erofs.walk(path):
                count += 1
        assert count <= len(raw) // 12


def flipped(data: st.DataObject, sound: bytes) -> bytes:
    raw = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.one_of(st.integers(0, len(raw) - 1), st.integers(1024, 3000)))
        raw[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 36, 64, 255])))
    end = data.draw(st.sampled_from([len(raw)] * 4 + [len(raw) - 4096, len(raw) - 1, 4096, 100, 0]))
    return bytes(raw[:end])
