"""What a mount shows: every kind of entry, names, attributes, bytes."""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.repositories import (
    MTIME_NS,
    directory,
    file,
    hardlink,
    many_files,
    special,
    symlink,
    tree,
)

if TYPE_CHECKING:
    from tests.support.sites import Site

pytestmark = pytest.mark.mount

# cap_net_raw=ep, as the kernel stores it (linux/capability.h, revision 2)
CAPABILITY = b"\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
NOT_UTF8 = b"na\xefve \xff\n"


def test_every_kind_of_entry_is_what_it_was(site: Site) -> None:
    root = site.root(
        tree(
            directory(b"", 0o751, uid=5, gid=6),
            directory(b"tmp", 0o1777),
            directory(b"shared", 0o2775, gid=50),
            file(b"su", b"#!", 0o4755),
            file(b"empty", mode=0o600, uid=4_000_000_000, gid=3_000_000_000),
            file(b"old", b"x", mtime_ns=-1_500_000_000),
            symlink(b"link", b"../" + NOT_UTF8),
            special(b"null", stat.S_IFCHR | 0o666, (1, 3)),
            special(b"disk", stat.S_IFBLK | 0o660, (259, 70_000)),
            special(b"pipe", stat.S_IFIFO | 0o640),
            special(b"sock", stat.S_IFSOCK | 0o700),
            hardlink(b"tmp/su2", b"su"),
        )
    )
    with site.mounted(root) as at:
        found = {path.name: path.lstat() for path in at.iterdir()}
        top, second = at.stat(), os.lstat(at / "tmp/su2")
        target = os.fsencode((at / "link").readlink())
    assert (top.st_mode, top.st_uid, top.st_gid, top.st_nlink) == (stat.S_IFDIR | 0o751, 5, 6, 4)
    modes = {name: each.st_mode for name, each in found.items()}
    assert modes == {
        "tmp": stat.S_IFDIR | 0o1777,
        "shared": stat.S_IFDIR | 0o2775,
        "su": stat.S_IFREG | 0o4755,
        "empty": stat.S_IFREG | 0o600,
        "old": stat.S_IFREG | 0o644,
        "link": stat.S_IFLNK | 0o777,
        "null": stat.S_IFCHR | 0o666,
        "disk": stat.S_IFBLK | 0o660,
        "pipe": stat.S_IFIFO | 0o640,
        "sock": stat.S_IFSOCK | 0o700,
    }
    assert (found["empty"].st_uid, found["empty"].st_gid) == (4_000_000_000, 3_000_000_000)
    assert found["su"].st_mtime_ns == MTIME_NS
    assert found["old"].st_mtime_ns == -1_500_000_000
    assert found["null"].st_rdev == os.makedev(1, 3)
    assert found["disk"].st_rdev == os.makedev(259, 70_000)
    assert target == b"../" + NOT_UTF8
    assert (second.st_ino, second.st_nlink) == (found["su"].st_ino, 2)
    assert found["su"].st_nlink == 2


def test_extended_attributes_are_listed_and_read(site: Site) -> None:
    long = bytes(range(256)) * 16
    given = (
        (b"security.capability", CAPABILITY),
        (b"trusted.note", b"t"),
        (b"user.empty", b""),
        (b"user.long", long),
    )
    root = site.root(
        tree(
            directory(b"", xattrs=((b"user.dir", b"d"),)),
            file(b"ping", b"#!", 0o755, xattrs=given),
            file(b"none", b"#!"),
        )
    )
    with site.mounted(root) as at:
        names = os.listxattr(at / "ping")
        values = {name: os.getxattr(at / "ping", name) for name in names}
        assert os.getxattr(at, "user.dir") == b"d"
        assert os.listxattr(at / "none") == []
        with pytest.raises(OSError, match="No data available"):
            os.getxattr(at / "ping", "user.other")
        with pytest.raises(OSError, match="No data available"):
            os.getxattr(at / "ping", "trusted.overlay.redirect")
    assert values == {name.decode(): value for name, value in given}


def test_access_control_lists_are_obeyed(site: Site) -> None:
    # user:65534 may read what its group may not (acl(5), xattr version 2)
    def entry(tag: int, perm: int, who: int = 0xFFFFFFFF) -> bytes:
        return tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + who.to_bytes(4, "little")

    acl = (2).to_bytes(4, "little") + b"".join(
        (entry(1, 6), entry(2, 4, 65534), entry(4, 0), entry(16, 4), entry(32, 0))
    )
    root = site.root(
        tree(
            directory(b""),
            file(b"for-nobody", b"yes", 0o640, xattrs=((b"system.posix_acl_access", acl),)),
            file(b"for-none", b"no", 0o640),
        )
    )
    site.folder.chmod(0o755)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat"]
    with site.mounted(root) as at:
        allowed = subprocess.run([*nobody, at / "for-nobody"], capture_output=True, check=False)
        refused = subprocess.run([*nobody, at / "for-none"], capture_output=True, check=False)
        listed = os.getxattr(at / "for-nobody", "system.posix_acl_access")
    assert allowed.stdout == b"yes"
    assert b"Permission denied" in refused.stderr
    assert listed == acl


def test_names_may_be_any_bytes(site: Site) -> None:
    names = [NOT_UTF8, b"\x01", "ü".encode(), b"x" * 255]
    root = site.root(tree(directory(b""), *(file(name, name) for name in names)))
    with site.mounted(root) as at:
        assert sorted(os.fsencode(path.name) for path in at.iterdir()) == sorted(names)
        for name in names:
            assert (at / os.fsdecode(name)).read_bytes() == name
        assert not (at / "missing").exists()


def test_a_directory_of_five_thousand_names_is_listed_whole(site: Site) -> None:
    root = site.root(tree(directory(b""), *many_files(b"many", 5000)))
    with site.mounted(root) as at:
        listed = sorted(path.name for path in (at / "many").iterdir())
        assert listed == [f"file-{number:05d}" for number in range(5000)]
        assert {entry.inode() for entry in os.scandir(at / "many")} == {
            os.lstat(at / "many" / name).st_ino for name in listed
        }
        shell = subprocess.run(["ls", "-a", at / "many"], capture_output=True, check=True)
        assert shell.stdout.split()[:2] == [b".", b".."]


def test_a_listing_goes_on_at_a_position_that_was_told(site: Site) -> None:
    root = site.root(tree(directory(b""), *many_files(b"many", 5000)))
    script = (
        "opendir(my $d, $ARGV[0]) or die; my @all; my $middle;"
        " while (my $n = readdir $d) { push @all, $n; $middle = telldir $d if @all == 2500 }"
        " seekdir $d, $middle; my @again = readdir $d;"
        " print 'same' if join('/', @again) eq join('/', @all[2500..$#all])"
    )
    with site.mounted(root) as at:
        done = subprocess.run(
            ["perl", "-e", script, at / "many"], capture_output=True, check=True, text=True
        )
    assert done.stdout == "same"


def test_many_readers_get_the_same_bytes_wherever_they_read(site: Site) -> None:
    body = random.Random(1).randbytes(5 << 20)
    root = site.root(tree(directory(b""), file(b"big", body)))

    def read(seed: int) -> bool:
        chance = random.Random(seed)
        with (at / "big").open("rb", buffering=0) as opened:
            for _ in range(20):
                start, length = chance.randrange(len(body)), chance.randrange(1, 300_000)
                opened.seek(start)
                expected = body[start : start + length]
                got = b""
                while len(got) < len(expected):
                    got += opened.read(length - len(got))
                if got != expected:
                    return False
        return True

    with site.mounted(root) as at, ThreadPoolExecutor(16) as threads:
        assert all(threads.map(read, range(32)))


def test_a_file_can_be_mapped(site: Site) -> None:
    body = random.Random(2).randbytes((1 << 20) + 4097)
    root = site.root(tree(directory(b""), file(b"mapped", body)))
    with (
        site.mounted(root) as at,
        (at / "mapped").open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        assert hashlib.sha256(mapped).digest() == hashlib.sha256(body).digest()
        assert mapped[1 << 20 :] == body[1 << 20 :]


def test_a_program_runs(site: Site) -> None:
    program = Path(shutil.which("true") or "").read_bytes()
    root = site.root(tree(directory(b""), file(b"true", program, 0o755)))
    with site.mounted(root) as at:
        assert subprocess.run([at / "true"], check=False).returncode == 0


def test_nothing_can_be_written(site: Site) -> None:
    root = site.root(tree(directory(b""), file(b"f", b"x")))
    with site.mounted(root) as at:
        for write in (
            lambda: (at / "new").write_bytes(b""),
            lambda: (at / "f").write_bytes(b"y"),
            (at / "f").unlink,
            lambda: (at / "f").chmod(0o777),
            (at / "d").mkdir,
        ):
            with pytest.raises(OSError, match="Read-only file system"):
                write()


def test_sizes_are_told(site: Site) -> None:
    root = site.root(tree(directory(b""), file(b"f", b"x" * 10_000)))
    with site.mounted(root) as at:
        told = os.statvfs(at)
        assert (told.f_blocks * told.f_frsize, told.f_bfree, told.f_namemax) == (12_288, 0, 255)
        assert told.f_files == 2
        assert (at / "f").stat().st_blocks == 20
