"""What programs do to the files of a container, and what they see: a comparison of two roots.

Every observation is a value that depends on the file system's behaviour alone: no inode numbers,
no times of now. What fails is observed by the name of its errno.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.repositories import directory, file, hardlink, many_files, symlink, tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.repositories import Tree

CAP_NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
LARGE = bytes(range(256)) * 2048
_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
_IN_MODIFY, _IN_CREATE, _IN_DELETE = 2, 0x100, 0x200


def sample() -> Tree:
    """A tree with one file for each operation."""
    names = (
        *("chmod", "chown", "append", "truncate", "rename", "unlink", "replace", "linked"),
        *("lock", "watched", "shared", "utime", "setxattr"),
    )
    return tree(
        directory(b"", 0o755),
        directory(b"d", 0o750, uid=5, gid=6),
        file(b"d/inner", b"inner\n"),
        directory(b"gone"),
        file(b"gone/a", b"a\n"),
        file(b"empty"),
        file(b"large", LARGE),
        file(b"mapped", LARGE[::-1]),
        file(b"setuid", Path("/usr/bin/id").read_bytes(), 0o4755),
        file(
            b"capable",
            Path("/bin/cat").read_bytes(),
            0o755,
            xattrs=((b"security.capability", CAP_NET_RAW),),
        ),
        file(b"script", b"#!/bin/sh\necho before\n", 0o755),
        file(b"first", b"two names\n"),
        hardlink(b"second", b"first"),
        symlink(b"link", b"d/inner"),
        *(file(name.encode(), f"{name}\n".encode() * 3) for name in names),
        *many_files(b"many", 20),
    )


def unpack(description: Tree, target: Path) -> None:
    """The same tree as plain files."""
    for entry in description.entries:
        path = target / os.fsdecode(entry.path)
        if entry.kind.name == "HARDLINK":
            os.link(target / os.fsdecode(entry.target), path)
            continue
        if stat.S_ISDIR(entry.mode):
            path.mkdir(exist_ok=True)
        elif stat.S_ISLNK(entry.mode):
            path.symlink_to(os.fsdecode(entry.target))
            continue
        else:
            path.write_bytes(description.bodies.get(entry.path, b""))
        os.chown(path, entry.uid, entry.gid)
        path.chmod(stat.S_IMODE(entry.mode))
        for name, value in entry.xattrs:
            os.setxattr(path, name, value)
    for entry in reversed(description.entries):
        if entry.kind.name != "HARDLINK":
            times = (entry.mtime_ns, entry.mtime_ns)
            os.utime(target / os.fsdecode(entry.path), ns=times, follow_symlinks=False)


def observe(root: Path) -> dict[str, object]:
    """Do everything, in order; what was seen, by operation."""
    return {name: _attempt(operation, root) for name, operation in OPERATIONS.items()}


def _attempt(operation: Callable[[Path], object], root: Path) -> object:
    try:
        return operation(root)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def listing(root: Path) -> dict[str, object]:
    """All names with what stat(2) says that lasts."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        size = -1 if path.is_dir() else status.st_size
        xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path)} if size >= 0 else {}
        where = str(path.relative_to(root))
        links = 0 if path.is_dir() else status.st_nlink
        key = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
        found[where] = (*key, size, links, xattrs if not path.is_symlink() else {})
    return found


def _bodies(root: Path) -> object:
    return [(path.name, path.read_bytes()) for path in sorted((root / "many").iterdir())]


def _one_device(root: Path) -> object:
    paths = [root, *root.rglob("*")]
    return len({path.lstat().st_dev for path in paths})


def _keeps_inode(root: Path) -> object:
    before = (root / "utime").stat()
    os.utime(root / "utime", (1, 1))
    after = (root / "utime").stat()
    return before.st_ino == after.st_ino, before.st_dev == after.st_dev, after.st_mtime


def _chmod(root: Path) -> object:
    (root / "chmod").chmod(0o600)
    return stat.S_IMODE((root / "chmod").stat().st_mode), (root / "chmod").read_bytes()


def _chown(root: Path) -> object:
    os.chown(root / "chown", 7, 8)
    status = (root / "chown").stat()
    return status.st_uid, status.st_gid, status.st_size


def _append(root: Path) -> object:
    with (root / "append").open("ab") as opened:
        opened.write(b"more\n")
    return (root / "append").read_bytes()


def _truncate(root: Path) -> object:
    os.truncate(root / "truncate", 3)
    return (root / "truncate").read_bytes()


def _rename(root: Path) -> object:
    (root / "rename").rename(root / "d/renamed")
    return (root / "rename").exists(), (root / "d/renamed").read_bytes()


def _rename_directory(root: Path) -> object:
    (root / "many").rename(root / "moved")
    return sorted(path.name for path in (root / "moved").iterdir())


def _unlink(root: Path) -> object:
    with (root / "unlink").open("rb") as still_open:
        (root / "unlink").unlink()
        return still_open.read(), (root / "unlink").exists()


def _remove_directory(root: Path) -> object:
    (root / "gone/a").unlink()
    (root / "gone").rmdir()
    (root / "gone").mkdir()
    return list((root / "gone").iterdir())


def _replace(root: Path) -> object:
    (root / "new").write_bytes(b"new\n")
    (root / "new").replace(root / "replace")
    return (root / "replace").read_bytes()


def _link(root: Path) -> object:
    os.link(root / "linked", root / "d/linked")
    return (root / "d/linked").read_bytes(), (root / "linked").stat().st_nlink


def _two_names(root: Path) -> object:
    with (root / "first").open("ab") as opened:
        opened.write(b"!\n")
    return (root / "first").read_bytes(), (root / "second").read_bytes()


def _setxattr(root: Path) -> object:
    os.setxattr(root / "setxattr", "user.note", b"x")
    return os.listxattr(root / "setxattr"), (root / "setxattr").read_bytes()


def _changed_script(root: Path) -> object:
    before = _output(str(root / "script"))
    with (root / "script").open("ab") as opened:
        opened.write(b"echo after\n")
    return before, _output(str(root / "script"))


def _setuid(root: Path) -> object:
    return _output(*_NOBODY, str(root / "setuid"), "-u")


def _capable(root: Path) -> object:
    status = _output(*_NOBODY, str(root / "capable"), "/proc/self/status")
    return [line for line in status.splitlines() if line.startswith("CapEff")]


def _capable_after_chmod(root: Path) -> object:
    (root / "capable").chmod(0o711)
    return _capable(root)


def _mmap_private(root: Path) -> object:
    with (root / "mapped").open("rb") as opened:
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
            mapped[5] = 0
            seen = bytes(mapped[:9])
        return seen, opened.read(9)


def _mmap_shared(root: Path) -> object:
    with (root / "shared").open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        mapped[:3] = b"SHA"
        mapped.flush()
    return (root / "shared").read_bytes()


def _direct(root: Path) -> object:
    handle = os.open(root / "large", os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 8192) as aligned:
            count = os.preadv(handle, [aligned], 4096)
            return count, aligned[:] == LARGE[4096 : 4096 + 8192]
    finally:
        os.close(handle)


def _sendfile(root: Path) -> object:
    ours, theirs = socket.socketpair()
    with ours, theirs, (root / "large").open("rb") as opened:
        count = os.sendfile(ours.fileno(), opened.fileno(), 100, 5000)
        return count, theirs.recv(count, socket.MSG_WAITALL) == LARGE[100 : 100 + count]


def _flock(root: Path) -> object:
    with (root / "lock").open("rb") as one, (root / "lock").open("rb") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        refused = _attempt(lambda _: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB), root)
        fcntl.flock(one, fcntl.LOCK_UN)
        return refused, _attempt(lambda _: fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB), root)


def _fcntl(root: Path) -> object:
    with (root / "lock").open("rb") as reading:
        fcntl.lockf(reading, fcntl.LOCK_SH | fcntl.LOCK_NB)
        exclusive = _attempt(lambda _: fcntl.lockf(reading, fcntl.LOCK_EX | fcntl.LOCK_NB), root)
    with (root / "lock").open("r+b") as writing:
        return exclusive, _attempt(lambda _: fcntl.lockf(writing, fcntl.LOCK_EX), root)


def _inotify(root: Path) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    wanted = _IN_MODIFY | _IN_CREATE | _IN_DELETE
    for watched in ("d", "watched"):
        libc.inotify_add_watch(handle, os.fsencode(root / watched), wanted)
    (root / "d/created").write_bytes(b"x")
    (root / "d/inner").unlink()
    with (root / "watched").open("ab") as opened:
        opened.write(b"x")
    with (root / "watched").open("ab") as opened:
        opened.write(b"y")
    try:
        data = os.read(handle, 4096)
    finally:
        os.close(handle)
    events = []
    while data:
        _, mask, _, length = struct.unpack_from("iIII", data)
        events.append((mask, data[16 : 16 + length].rstrip(b"\0")))
        data = data[16 + length :]
    return events


def _read_only_again(root: Path) -> object:
    return (root / "link").exists(), str((root / "link").readlink()), (root / "empty").read_bytes()


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr.replace(command[-1], "")


OPERATIONS: dict[str, Callable[[Path], object]] = {
    "listing": listing,
    "bodies": _bodies,
    "one device": _one_device,
    "O_DIRECT": _direct,
    "sendfile": _sendfile,
    "mmap, private": _mmap_private,
    "setuid": _setuid,
    "capability": _capable,
    "capability after chmod": _capable_after_chmod,
    "flock": _flock,
    "fcntl locks": _fcntl,
    "inode number after a change": _keeps_inode,
    "chmod": _chmod,
    "chown": _chown,
    "append": _append,
    "truncate": _truncate,
    "rename": _rename,
    "rename of a directory": _rename_directory,
    "unlink": _unlink,
    "rmdir and mkdir": _remove_directory,
    "replace": _replace,
    "link": _link,
    "a change through one of two names": _two_names,
    "setxattr": _setxattr,
    "exec of a changed script": _changed_script,
    "mmap, shared": _mmap_shared,
    "inotify": _inotify,
    "symbolic link to what is gone": _read_only_again,
    "one device after all": _one_device,
}
