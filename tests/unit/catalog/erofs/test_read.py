"""Reading images that were changed."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from catalog import erofs
from catalog.errors import CatalogError
from catalog.model import TreeKind
from catalog.reader import CatalogReader
from tests.support.catalogs import directory, file, hardlink, symlink, write_layer

ROOT = 1152


@cache
def sound() -> bytes:
    with TemporaryDirectory() as name:
        folder = Path(name)
        tree = [
            directory(b"d"),
            file(b"d/f", b"body"),
            file(b"e"),
            hardlink(b"g", b"e"),
            file(b"h", xattrs=((b"user.not-kept", b""),)),
            symlink(b"l", b"target"),
        ]
        write_layer(folder / "catalog", tree, kind=TreeKind.ROOT)
        with CatalogReader.open(folder / "catalog") as reader:
            erofs.render(reader, folder / "image")
        return (folder / "image").read_bytes()


def changed(folder: Path, at: int, data: bytes) -> Path:
    path = folder / "image"
    path.write_bytes(sound()[:at] + data + sound()[at + len(data) :])
    return path


@pytest.mark.parametrize(
    ("at", "data"),
    [
        (1024, b"\0"),  # magic
        (1032, b"\3"),  # feature_compat
        (1036, b"\x0d"),  # blkszbits
        (1037, b"\1"),  # sb_extslots
        (1060, b"\xff"),  # blocks
        (1064, b"\1"),  # meta_blkaddr
        (1104, b"\x0c"),  # feature_incompat
        (1151, b"\1"),  # reserved
    ],
)
def test_a_superblock_that_is_none_of_ours_is_refused(tmp_path: Path, at: int, data: bytes) -> None:
    with pytest.raises(erofs.DamagedImage):
        erofs.check_superblock(changed(tmp_path, at, data))


@pytest.mark.parametrize("size", [0, 1024, 1100, 4095, 8192])
def test_a_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "image").write_bytes(sound().ljust(size, b"\0")[:size])
    with pytest.raises(erofs.DamagedImage):
        erofs.check_superblock(tmp_path / "image")


def test_the_superblock_of_a_sound_image_is_accepted(tmp_path: Path) -> None:
    erofs.check_superblock(changed(tmp_path, 0, b""))
    assert len(list(erofs.walk(tmp_path / "image"))) == 7


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="No such file"):
        erofs.check_superblock(tmp_path / "image")
    with pytest.raises(CatalogError, match="Is a directory"):
        list(erofs.walk(tmp_path))


@pytest.mark.parametrize(
    ("at", "data"),
    [
        (1038, struct.pack("<H", 35)),  # the root is in the superblock
        (1038, struct.pack("<H", 60_000)),  # the root is behind the end
        (1040, struct.pack("<Q", 3)),  # as many inodes as the superblock does not have
        (ROOT, b"\x0f"),  # a layout
        (ROOT + 4, struct.pack("<H", 0o100755)),  # the root is a file
        (ROOT + 4, struct.pack("<H", 0o150755)),  # no type
        (ROOT + 8, struct.pack("<Q", 5)),  # a directory of five bytes
        (ROOT + 8, struct.pack("<Q", 1 << 62)),
        (ROOT + 40, struct.pack("<I", 1_000_000_000)),  # nanoseconds
        (ROOT + 44, struct.pack("<I", 0)),  # nlink
        (ROOT + 48, b"\1"),  # reserved
        (ROOT + 64, struct.pack("<Q", 37)),  # `.`
        (ROOT + 76, struct.pack("<Q", 0)),  # `..`
        (ROOT + 88, struct.pack("<Q", 36)),  # d is the root
        (ROOT + 88, struct.pack("<Q", 1)),  # d is in the superblock
        (ROOT + 88, struct.pack("<Q", 1 << 60)),  # d is behind the end
        (ROOT + 100, struct.pack("<Q", 36)),  # e is the root
    ],
)
def test_an_image_that_contradicts_itself_is_refused(tmp_path: Path, at: int, data: bytes) -> None:
    with pytest.raises(erofs.DamagedImage):
        list(erofs.walk(changed(tmp_path, at, data)))


MODE, SIZE, FIRST = 4, 8, 16


@pytest.mark.parametrize(
    ("path", "at", "data"),
    [
        (b"e", MODE, struct.pack("<H", 0o020600)),  # a whiteout
        (b"e", MODE, struct.pack("<H", 0o010600)),  # of another type than its name says
        (b"e", SIZE, b"\1"),  # a body without chunks
        (b"e", FIRST, b"\1"),
        (b"d/f", FIRST, b"\x1e"),  # smaller chunks
        (b"d/f", SIZE, bytes(8)),
        (b"d/f", SIZE, struct.pack("<Q", (1 << 48) + 1)),
        (b"l", SIZE, struct.pack("<Q", 4097)),
        (b"l", SIZE, struct.pack("<Q", 4096)),
        (b"l", 64, b"a\0b"),
        (b"d", 0, b"\x09"),  # a directory of chunks
        (b"d", MODE, struct.pack("<H", 0o120777)),
    ],
)
def test_an_inode_that_nobody_wrote_is_refused(
    tmp_path: Path, path: bytes, at: int, data: bytes
) -> None:
    (tmp_path / "sound").write_bytes(sound())
    nid = dict(erofs.walk(tmp_path / "sound"))[path].nid
    with pytest.raises(erofs.DamagedImage):
        list(erofs.walk(changed(tmp_path, nid * 32 + at, data)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"overlay.metacopy", b"overlay.opaque\0y"),
        (b"overlay.redirect/", b"overlay.redirectx"),
        (b"not-kept", b"overlay."),
        (b"\xff\xff\xff\xff", b"\0\0\0\0"),  # the hole
    ],
)
def test_a_body_that_is_not_where_bodies_are_is_refused(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    assert sound().count(old) == 1
    path = changed(tmp_path, sound().index(old), new)
    with pytest.raises(erofs.DamagedImage):
        list(erofs.walk(path))
