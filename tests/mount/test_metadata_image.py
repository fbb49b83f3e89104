"""Metadata images before their three judges: the kernel, fsck.erofs and dump.erofs."""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, given, settings

from catalog import erofs
from catalog.model import Entry, TreeKind
from catalog.reader import CatalogReader
from tests.support import needs, sweep, treediff
from tests.support.catalogs import directory, file, hardlink, symlink, write_layer
from tests.support.generated_trees import ACL, CAPABILITY, TREES, write_root
from tests.support.metadata_image import expected, mounted, native_root, store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

pytestmark = pytest.mark.mount

TOOL = b"#!/bin/sh\necho hello\n"
BODY = b"a body\n" * 1000


def special(path: bytes, mode: int, rdev: tuple[int, int] = (0, 0)) -> Entry:
    return Entry(path, mode=mode, rdev=rdev, uid=5, gid=6, mtime_ns=1_700_000_000_000_000_007)


def sized(path: bytes, size: int) -> Entry:
    return Entry(path, mode=stat.S_IFREG | 0o600, size=size, content=size.to_bytes(32, "big"))


EVERYTHING = [
    directory(b"", 0o755, mtime_ns=1_600_000_000_000_000_001),
    directory(b"modes", 0o7777, uid=4_294_967_294, mtime_ns=-1),
    Entry(b"modes/setuid", mode=0o104755, mtime_ns=-(1 << 63), size=6, content=bytes(32)),
    Entry(b"modes/none", mode=0o100000, gid=70_000, mtime_ns=(1 << 63) - 1),
    file(b"empty"),
    replace(file(b"tool", TOOL, xattrs=((b"security.capability", CAPABILITY),)), mode=0o100755),
    replace(  # group bits as the ACL's mask
        file(b"body", BODY, xattrs=((b"system.posix_acl_access", ACL), (b"user.a", b""))),
        mode=0o100664,
    ),
    hardlink(b"modes/body-too", b"body"),
    hardlink(b"zbody", b"body"),
    hardlink(b"empty-too", b"empty"),
    directory(b"acl", xattrs=((b"system.posix_acl_default", ACL), (b"user.d" * 42, b"x" * 5000))),
    file(b"large-xattr", b"x", xattrs=((b"trusted.large", b"\0\xff" * 32_000),)),
    file(b"most-xattrs", b"x", xattrs=tuple((b"user.%d" % n, bytes(65_491)) for n in range(4))),
    file(b"many-xattrs", b"x", xattrs=tuple((b"user.%03d" % n, b"v" * n) for n in range(200))),
    symlink(b"link", b"tool"),
    symlink(b"link-not-utf-8", b"\xff\xfe"),
    *(symlink(b"link-%d" % size, b"x" * size) for size in (*range(3900, 4096, 13), 4095)),
    Entry(b"link-xattr", mode=0o120777, target=b"x" * 99, xattrs=((b"trusted.l", b"1" * 4000),)),
    special(b"dev-null", 0o020666, (1, 3)),
    special(b"dev-big", 0o060660, (4095, (1 << 20) - 1)),
    special(b"dev-minor", 0o020600, (0, 256)),
    Entry(b"dropped", mode=0o010600, xattrs=((b"user.on-a-fifo", b"1"), (b"trusted.t", b"2"))),
    Entry(b"nobody", mode=0o100600, uid=0xFFFFFFFF, gid=0xFFFFFFFF),
    special(b"fifo", 0o010622),
    special(b"socket", 0o140755),
    file(b"names/" + b"\xff" * 255, b"1"),
    *(file(b"names/%c" % byte, b"%d" % byte) for byte in range(1, 256) if byte not in b"./"),
    file(b"names/...", b"3"),
    file(b"!dots-in-between", b"!"),
    *(file(b"big/%05d-%s" % (n, b"n" * (n % 200)), b"%d" % (n % 7)) for n in range(3000)),
    *(directory(b"sized/%03d/%s" % (n, b"d" * n)) for n in range(1, 200)),
    *(sized(b"sparse-%d" % size, size) for size in (3 << 30, 1 << 40, (1 << 43) + 1, 1 << 48)),
]


@pytest.fixture
def tree(folder: Path) -> Path:
    return made(folder, EVERYTHING)


def made(folder: Path, entries: Iterable[Entry]) -> Path:
    """A root's catalog and, beside it, its ``image``."""
    path = folder / "catalog"
    write_layer(path, entries, kind=TreeKind.ROOT)
    with CatalogReader.open(path) as reader:
        erofs.render(reader, folder / "image")
    return path


@pytest.mark.parametrize("loop", [False, True], ids=["file", "loop"])
def test_the_kernel_shows_what_the_catalog_holds(tree: Path, folder: Path, loop: bool) -> None:
    with CatalogReader.open(tree) as reader:
        wanted = expected(reader, redirects=True)
        counts = {path or b".": node.nlink for path, node in reader.walk()}
    with mounted(folder / "image", folder / "mnt", loop=loop) as root:
        found = treediff.scan(root)
        links = {path: os.lstat(os.fsencode(root) + b"/" + path).st_nlink for path in found}
    assert found.keys() == wanted.keys()
    for path, entry in wanted.items():
        assert found[path] == entry, path
    assert links == counts


def test_every_name_is_found_by_looking_it_up(tree: Path, folder: Path) -> None:
    with CatalogReader.open(tree) as reader, mounted(folder / "image", folder / "mnt") as root:
        for path, node in reader.walk():
            assert os.lstat(os.fsencode(root) + b"/" + path).st_mode == node.mode
        for name in (b"nothing", b"!", b"\xff", b"big/0", b"names/\xff\xff", b"zzz"):
            assert not os.path.lexists(os.fsencode(root) + b"/" + name)


def test_the_tools_of_erofs_find_nothing_wrong(tree: Path, folder: Path) -> None:
    fsck = needs.command("fsck.erofs", "erofs-utils")
    checked = subprocess.run([fsck, folder / "image"], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert b"<E>" not in checked.stdout + checked.stderr
    dump = [needs.command("dump.erofs", "erofs-utils"), "-s", str(folder / "image")]
    shown = subprocess.run(dump, capture_output=True, check=True, text=True).stdout
    with CatalogReader.open(tree) as reader:
        assert f"inode count:                       {reader.summary().inodes}\n" in shown
    assert (
        f"blocks:                            {(folder / 'image').stat().st_size // 4096}" in shown
    )


def test_an_overlay_reads_bodies_from_the_data_layer(tree: Path, folder: Path) -> None:
    data = folder / "data"
    store(data, [TOOL, BODY, b"!", *(b"%d" % n for n in range(256))])
    with CatalogReader.open(tree) as reader:
        wanted = expected(reader, redirects=False)
    with native_root(folder / "image", data, folder, writable=False) as root:
        found = treediff.scan(root)
        assert found == wanted
        assert (root / "body").read_bytes() == BODY
        assert (root / "body").samefile(root / "modes/body-too")
        assert (root / "big" / f"00199-{'n' * 199}").read_bytes() == b"%d" % (199 % 7)
        assert subprocess.run([root / "tool"], capture_output=True, check=True).stdout == b"hello\n"
        assert not [name for entry in found.values() for name in entry.xattrs if "overlay" in name]


def test_changed_files_are_copied_up_whole_with_all_they_have(tree: Path, folder: Path) -> None:
    data = folder / "data"
    store(data, [TOOL, BODY])
    with native_root(folder / "image", data, folder) as root:
        (root / "tool").chmod(0o700)
        with (root / "body").open("ab") as opened:
            opened.write(b"more")
        for name in ("empty", "dropped", "nobody", "link", "dev-null", "link-xattr"):
            os.utime(root / name, ns=(5, 5), follow_symlinks=False)
        (root / "names").chmod(0o711)
        (root / "fifo").unlink()
        assert (root / "body").read_bytes() == BODY + b"more"
        assert (root / "modes/body-too").read_bytes() == BODY
    upper = folder / "upper"
    assert (upper / "tool").read_bytes() == TOOL
    assert os.getxattr(upper / "tool", "security.capability") == CAPABILITY
    assert os.getxattr(upper / "body", "system.posix_acl_access") == ACL
    assert "user.on-a-fifo" not in os.listxattr(upper / "dropped")
    assert os.getxattr(upper / "dropped", "trusted.t") == b"2"
    assert stat.S_ISCHR((upper / "fifo").lstat().st_mode)


def test_a_body_may_arrive_after_the_mount(tree: Path, folder: Path) -> None:
    data = folder / "data"
    data.mkdir()
    with native_root(folder / "image", data, folder) as root:
        with pytest.raises(FileNotFoundError):
            (root / "body").read_bytes()
        store(data, [BODY])
        assert (root / "body").read_bytes() == BODY


def test_two_images_have_different_uuids(folder: Path) -> None:
    """Overlayfs gives up its index when two lower layers have the same one."""
    uuids = set()
    for name in (b"a", b"b"):
        made(folder, [file(name)])
        raw = (folder / "image").read_bytes()
        uuids.add(raw[1072:1088])
        assert raw[1078] >> 4 == 8
    assert len(uuids) == 2


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(TREES)
def test_the_kernel_shows_any_tree_as_the_catalog_has_it(entries: list[Entry]) -> None:
    folder = sweep.make_folder("anytree")
    try:
        write_root(folder / "catalog", entries)
        with CatalogReader.open(folder / "catalog") as reader:
            erofs.render(reader, folder / "image")
            wanted = expected(reader, redirects=True)
        with mounted(folder / "image", folder / "mnt") as root:
            assert treediff.scan(root) == wanted
        fsck = [needs.command("fsck.erofs", "erofs-utils"), str(folder / "image")]
        assert subprocess.run(fsck, capture_output=True, check=False).returncode == 0
    finally:
        sweep.sweep_folder(folder)


def test_the_located_blocks_are_all_that_the_kernel_needs_to_find_paths(folder: Path) -> None:
    names = [b"huge/name-that-is-rather-long-%06d" % i for i in range(20_000)]
    small = [b"lib/p%02d/m%02d.py" % (i, j) for i in range(90) for j in range(20)]
    tree = [directory(b"huge"), *(file(name) for name in (*names, *small))]
    wanted = [small[777], names[4321], small[1500], names[19_999], names[0]]
    write_layer(folder / "catalog", tree, kind=TreeKind.ROOT)
    with CatalogReader.open(folder / "catalog") as reader:
        erofs.render(reader, folder / "image")
    whole = (folder / "image").read_bytes()
    runs = erofs.locate(folder / "image", wanted)
    assert sum(length for _, length in runs) < len(whole) / 4
    with (folder / "partial").open("wb") as partial:
        partial.write(b"\xff" * len(whole))  # which is no inode and no directory
        for offset, length in runs:
            partial.seek(offset)
            partial.write(whole[offset : offset + length])
    with mounted(folder / "partial", folder / "at") as at:
        for path in wanted:
            assert (at / os.fsdecode(path)).stat().st_size == 0
        assert len(list((at / "lib/p38").iterdir())) == 20
        with pytest.raises(OSError, match=r"needs cleaning|not supported"):
            (at / os.fsdecode(small[200])).stat()
