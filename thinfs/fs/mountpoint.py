"""Directories that file systems of ours are mounted on: preparing, sweeping, unmounting.

Nothing here serves anything, so who only looks after mounts need not know what does.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thinfs.errors import MissingError, StoreError, UsageError
from thinfs.fs import mountinfo

log = logging.getLogger(__name__)

KIND: Final = "fuse.thinfs"
FUSE_CONF: Final = Path("/etc/fuse.conf")
DEVICE: Final = Path("/dev/fuse")

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


def options_here(options: MountOptions) -> set[str]:
    """Mount options for this user on this machine."""
    try:
        conf = FUSE_CONF.read_text()
    except OSError:
        conf = ""
    return options_text(options, os.geteuid(), conf)


def check_device() -> None:
    """Say what to do when this machine has no FUSE.

    Raises:
        StoreError: it has not.
    """
    if not DEVICE.exists():
        raise StoreError(f"{DEVICE} does not exist: load the kernel module fuse")


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
