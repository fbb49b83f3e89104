"""Mounting and unmounting, and what a killed process leaves behind."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyfuse3
import trio

from thinfs.errors import MissingError, StoreError, UsageError
from thinfs.fs import mountinfo
from thinfs.fs.adapter import Adapter
from thinfs.fs.tuning import tune

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import IO

    from thinfs.fs.filesystem import FileSystem

log = logging.getLogger(__name__)

KIND: Final = "fuse.thinfs"
FUSE_CONF: Final = Path("/etc/fuse.conf")

IDLE_TASKS: Final = 8
MAX_TASKS: Final = 1024
"""Requests answered at once. Reads that wait for the network take one each, and must not keep
names and warm files waiting; a waiting task costs a few KiB."""

UNMOUNT_TIMEOUT_S: Final = 10.0

_MNT_DETACH: Final = 2


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a file system is mounted.

    Attributes:
        read_ahead_kib: the kernel's read-ahead; only root may raise it.
        privileged: setuid bits and devices work, as containers need it. Only for mounts
            whose own directories keep other users out.
    """

    read_ahead_kib: int
    privileged: bool = False


def may_allow_other(euid: int, fuse_conf: str) -> bool:
    """Whether fusermount3 lets this user open a mount to others."""
    lines = (line.split("#", 1)[0].strip() for line in fuse_conf.splitlines())
    return euid == 0 or "user_allow_other" in lines


def options_text(options: MountOptions, euid: int, fuse_conf: str) -> set[str]:
    """Mount options as libfuse takes them."""
    text = {"ro", "fsname=thinfs", "subtype=thinfs", "default_permissions"}
    if may_allow_other(euid, fuse_conf):
        text.add("allow_other")
    if options.privileged and euid == 0:
        text |= {"suid", "dev"}
    return text


@asynccontextmanager
async def mounted(
    filesystem: FileSystem, mountpoint: Path, options: MountOptions
) -> AsyncIterator[Serving]:
    """Serve a file system at ``mountpoint`` for the block; it is unmounted lazily at the end.

    A dead mount left there by a killed process is taken away first. One file system a
    process: pyfuse3 keeps its state in globals.

    Args:
        filesystem: what to serve.
        mountpoint: an empty or covered directory.
        options: how.

    Raises:
        MissingError: the directory does not exist.
        UsageError: it is no directory, or something of ours is mounted there and alive.
        StoreError: the kernel or fusermount3 refuses.
    """
    mountpoint = await trio.to_thread.run_sync(prepare_mountpoint, mountpoint)
    adapter = Adapter(filesystem)
    _init(adapter, mountpoint, options)
    try:
        async with trio.open_nursery() as nursery:
            serving = Serving(mountpoint, adapter)
            nursery.start_soon(serving.run)
            await _first_answer(mountpoint)
            tune(mountinfo.at(mountpoint)[-1].device, options.read_ahead_kib)
            log.info("serving %s", mountpoint)
            yield serving
            nursery.cancel_scope.cancel()
    finally:
        # Lazily, in the kernel: nothing here asks the file system, which answers no more.
        pyfuse3.close(unmount=True)
        filesystem.close()
        log.info("unmounted %s", mountpoint)


class Serving:
    """A mount that is being served.

    Attributes:
        mountpoint: where; absolute, without symbolic links.
        adapter: its counters.
        ended: set when somebody has unmounted it, or the kernel ended it.
    """

    def __init__(self, mountpoint: Path, adapter: Adapter) -> None:
        self.mountpoint = mountpoint
        self.adapter = adapter
        self.ended = trio.Event()

    async def run(self) -> None:
        """Answer requests until the mount is gone or the caller is cancelled."""
        await pyfuse3.main(min_tasks=IDLE_TASKS, max_tasks=MAX_TASKS)
        self.ended.set()


def prepare_mountpoint(mountpoint: Path) -> Path:
    """Sweep dead mounts of ours from a directory and make sure that it can be mounted on.

    Returns:
        The directory, absolute and without symbolic links.
    """
    absolute = Path(os.path.realpath(mountpoint.parent)) / mountpoint.name
    if mountpoint.name in ("", ".."):
        absolute = Path(os.path.realpath(mountpoint))
    sweep_dead_mounts(absolute)
    if not absolute.exists():
        raise MissingError(f"{mountpoint} does not exist: create the directory first")
    if not absolute.is_dir():
        raise UsageError(f"{mountpoint} is not a directory")
    resolved = absolute.resolve()
    if resolved != absolute:
        return prepare_mountpoint(resolved)
    return resolved


def sweep_dead_mounts(mountpoint: Path) -> None:
    """Detach mounts of ours at ``mountpoint`` whose process is gone.

    Raises:
        UsageError: the one on top is being served.
    """
    for mount in reversed(mountinfo.at(mountpoint)):
        if mount.kind != KIND:
            return
        if not _is_dead(mountpoint):
            raise UsageError(
                f"something is mounted at {mountpoint} already: thinfs umount {mountpoint}"
            )
        log.warning("detaching the dead mount at %s that a killed process left", mountpoint)
        unmount(mountpoint)


def unmount(mountpoint: Path) -> None:
    """Detach the topmost mount at a directory; who has files open there keeps them.

    Raises:
        UsageError: nothing of ours is mounted there.
        StoreError: the kernel or fusermount3 refuses.
    """
    mounts = mountinfo.at(mountpoint)
    if not mounts or mounts[-1].kind != KIND:
        raise UsageError(f"{mountpoint} is not a mount of thinfs")
    if os.geteuid() == 0:
        _detach(mountpoint)
    else:
        _fusermount("-u", "-z", "--", str(mountpoint))


def _init(adapter: Adapter, mountpoint: Path, options: MountOptions) -> None:
    if not Path("/dev/fuse").exists():
        raise StoreError("/dev/fuse does not exist: load the kernel module fuse")
    try:
        conf = FUSE_CONF.read_text()
    except OSError:
        conf = ""
    text = options_text(options, os.geteuid(), conf)
    with tempfile.TemporaryFile() as said:
        try:
            with _stderr_into(said):
                pyfuse3.init(adapter, str(mountpoint), text)
        except RuntimeError as error:
            said.seek(0)
            why = " ".join(said.read().decode(errors="replace").split()) or str(error)
            raise StoreError(f"cannot mount at {mountpoint}: {why}") from error


@contextmanager
def _stderr_into(file: IO[bytes]) -> Iterator[None]:
    """Catch what libfuse and fusermount3 write to descriptor 2: they give reasons only there."""
    sys.stderr.flush()
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


async def _first_answer(mountpoint: Path) -> None:
    """Wait until the mount answers. In a thread: this process is who answers."""
    await trio.to_thread.run_sync(os.statvfs, mountpoint, abandon_on_cancel=True)


def _is_dead(mountpoint: Path) -> bool:
    # statfs is asked of the server each time; attributes may come from the kernel's memory.
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def _detach(mountpoint: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), _MNT_DETACH) != 0:
        number = ctypes.get_errno()
        raise StoreError(f"cannot unmount {mountpoint}: {os.strerror(number)}")


def _fusermount(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["fusermount3", *arguments],
            capture_output=True,
            text=True,
            timeout=UNMOUNT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreError(f"fusermount3: {error}: install fuse3") from error
    if done.returncode != 0:
        raise StoreError(f"fusermount3: {done.stderr.strip()}")
