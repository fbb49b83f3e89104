"""The comparison of trees notices each kind of difference, and nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import needs
from tests.support.treediff import compare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NS = 1_000_000_000
OLD_NS = 1_500_000_000 * NS


def _make(root: Path) -> None:
    """One of everything."""
    (root / "d/sub").mkdir(parents=True)
    (root / "d/file").write_bytes(bytes(3_000_000) + b"end")
    (root / "d/empty").touch()
    (root / "link").symlink_to("d/file")
    (root / "one").write_text("same inode")
    (root / "two").hardlink_to(root / "one")
    (root / "three").write_text("same inode")
    os.mkfifo(root / "fifo")
    os.setxattr(root / "d/file", "user.colour", b"blue")
    for path in (*sorted(root.rglob("*"), reverse=True), root):
        os.utime(path, ns=(OLD_NS, OLD_NS), follow_symlinks=False)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    left, right = tmp_path / "left", tmp_path / "right"
    for root in (left, right):
        root.mkdir()
        _make(root)
    return left, right


def _keep_times(root: Path) -> None:
    """Give directories back the time that a change of their names altered."""
    for path in (root / "d", root):
        os.utime(path, ns=(OLD_NS, OLD_NS))


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)
    os.utime(path, ns=(OLD_NS, OLD_NS), follow_symlinks=False)


def _rewrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(OLD_NS, OLD_NS))


def _relink(root: Path) -> None:
    """Let "two" share its inode with "three" instead of "one"."""
    (root / "two").unlink()
    (root / "two").hardlink_to(root / "three")


def _unlink_copy(root: Path) -> None:
    """The same bytes as a file of its own: the hard link is gone."""
    _replace(root / "two", lambda path: path.write_text("same inode"))


def _flip_last_byte(path: Path) -> None:
    _rewrite(path, path.read_bytes()[:-1] + b"D")


CHANGES: list[tuple[str, Callable[[Path], object], set[tuple[bytes, str]]]] = [
    ("a name more", lambda r: (r / "new").touch(), {(b"new", "name")}),
    ("a name less", lambda r: (r / "d/empty").unlink(), {(b"d/empty", "name")}),
    ("an empty directory less", lambda r: (r / "d/sub").rmdir(), {(b"d/sub", "name")}),
    (
        "another type",
        lambda r: _replace(r / "link", lambda p: p.write_bytes(b"d/file")),
        {(b"link", "type"), (b"link", "mode"), (b"link", "size"), (b"link", "target")},
    ),
    ("permissions", lambda r: (r / "three").chmod(0o600), {(b"three", "mode")}),
    ("setuid", lambda r: (r / "three").chmod(0o4644), {(b"three", "mode")}),
    ("sticky directory", lambda r: (r / "d").chmod(0o1755), {(b"d", "mode")}),
    (
        "nanoseconds",
        lambda r: os.utime(r / "three", ns=(OLD_NS, OLD_NS + 1)),
        {(b"three", "mtime_ns")},
    ),
    (
        "time of a symlink",
        lambda r: os.utime(r / "link", ns=(OLD_NS, OLD_NS + 1), follow_symlinks=False),
        {(b"link", "mtime_ns")},
    ),
    (
        "link target",
        lambda r: _replace(r / "link", lambda p: p.symlink_to("d/fil_")),
        {(b"link", "target")},
    ),
    (
        "other hard links",
        _relink,
        {
            (b"one", "links"),
            (b"one", "names"),
            (b"two", "names"),
            (b"three", "links"),
            (b"three", "names"),
        },
    ),
    (
        "a copy for a hard link",
        _unlink_copy,
        {(b"one", "links"), (b"one", "names"), (b"two", "links"), (b"two", "names")},
    ),
    (
        "value of an xattr",
        lambda r: os.setxattr(r / "d/file", "user.colour", b"bluE"),
        {(b"d/file", "xattrs")},
    ),
    (
        "an xattr more",
        lambda r: os.setxattr(r / "d", "user.new", b""),
        {(b"d", "xattrs")},
    ),
    (
        "an xattr less",
        lambda r: os.removexattr(r / "d/file", "user.colour"),
        {(b"d/file", "xattrs")},
    ),
    ("size", lambda r: _rewrite(r / "d/empty", b"x"), {(b"d/empty", "size")}),
    ("the last byte", lambda r: _flip_last_byte(r / "d/file"), {(b"d/file", "bytes")}),
    ("the root's own mode", lambda r: r.chmod(0o700), {(b".", "mode")}),
]


def test_equal_trees_have_no_difference(trees: tuple[Path, Path]) -> None:
    assert compare(*trees) == []


@pytest.mark.parametrize(
    ("change", "expected"), [pytest.param(*case[1:], id=case[0]) for case in CHANGES]
)
def test_it_notices(
    trees: tuple[Path, Path],
    change: Callable[[Path], object],
    expected: set[tuple[bytes, str]],
) -> None:
    left, right = trees
    change(right)
    _keep_times(right)
    assert {(found.path, found.what) for found in compare(left, right)} == expected
    assert {(found.path, found.what) for found in compare(right, left)} == expected


@pytest.mark.parametrize(("uid", "gid", "what"), [(12_345, 0, "uid"), (0, 4_000_000_000, "gid")])
def test_it_notices_owners(trees: tuple[Path, Path], uid: int, gid: int, what: str) -> None:
    needs.root()
    left, right = trees
    os.lchown(right / "link", uid, gid)
    assert [(found.path, found.what) for found in compare(left, right)] == [(b"link", what)]


@pytest.mark.parametrize(
    ("kind", "minor", "what"),
    [
        (stat.S_IFCHR, 4, {"device"}),
        (stat.S_IFBLK, 3, {"type"}),
        (stat.S_IFIFO, 3, {"type", "device"}),
    ],
)
def test_it_notices_devices(
    trees: tuple[Path, Path], kind: int, minor: int, what: set[str]
) -> None:
    needs.root()
    left, right = trees
    os.mknod(left / "dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(right / "dev", kind | 0o600, os.makedev(1, minor))
    for root in trees:
        os.utime(root / "dev", ns=(OLD_NS, OLD_NS))
        _keep_times(root)
    assert {found.what for found in compare(left, right)} == what


def test_it_notices_capabilities_and_acls(trees: tuple[Path, Path]) -> None:
    needs.root()
    left, right = trees
    setcap = needs.command("setcap", "libcap2-bin")
    subprocess.run([setcap, "cap_net_raw+ep", right / "three"], check=True)
    subprocess.run([needs.command("setfacl", "acl"), "-m", "u:1:r", right / "one"], check=True)
    found = {(each.path, each.what) for each in compare(left, right)}
    assert {(b"three", "xattrs"), (b"one", "xattrs"), (b"two", "xattrs")} <= found


def test_it_tells_sockets_and_names_that_are_no_text(trees: tuple[Path, Path]) -> None:
    left, right = trees
    raw = os.fsencode(left) + b"/\xff\xfe"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(raw)
    shutil.copystat(right, left)
    assert [(found.path, found.left) for found in compare(left, right)] == [(b"\xff\xfe", "socket")]


def test_times_declared_unpredictable_are_not_compared(trees: tuple[Path, Path]) -> None:
    left, right = trees
    os.utime(right / "d", ns=(OLD_NS, 0))
    (right / "d").chmod(0o700)
    found = compare(left, right, unpredictable_mtimes={b"d"})
    assert [each.what for each in found] == ["mode"]
