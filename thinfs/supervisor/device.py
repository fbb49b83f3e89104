"""The mount itself: made once, kept open, served by whoever is given its device.

Nothing here asks the file system anything: who would answer may be dead, or not there yet.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import struct
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from thinfs.errors import StoreError, UsageError
from thinfs.fs import mountinfo
from thinfs.fs.mountpoint import (
    DEVICE,
    KIND,
    check_device,
    options_here,
    prepare_mountpoint,
    sweep_dead_mounts,
    unmount,
)

if TYPE_CHECKING:
    from thinfs.fs.mountpoint import MountOptions

log = logging.getLogger(__name__)

INIT_BYTES: Final = 64 << 10
"""More than FUSE_INIT has; the kernel refuses to write into less than 8 KiB."""

FUSERMOUNT_S: Final = 10.0

_RESEND: Final = struct.pack("<IiQ", 16, 7, 0)  # fuse_out_header: FUSE_NOTIFY_RESEND, since 6.9
_RDONLY, _NOSUID, _NODEV = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount whose device is open here.

    Attributes:
        mountpoint: absolute, without symbolic links.
        device: descriptor of /dev/fuse; the mount lives as long as anybody has it open.
        init: the kernel's first request.
        numbers: major and minor number of the file system.
        mounted_ns: when it was made, nanoseconds since the epoch.
    """

    mountpoint: Path
    device: int
    init: bytes
    numbers: tuple[int, int]
    mounted_ns: int

    def resend(self) -> bool:
        """Have the kernel ask again for what was taken and never answered.

        Returns:
            Whether this kernel can (6.9 and later).
        """
        try:
            os.write(self.device, _RESEND)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            log.debug("nothing can be asked again: %s", error.strerror)
        return True

    def close(self) -> None:
        """Unmount it, lazily, and close the device: who has files open there gets errors."""
        with suppress(UsageError):  # somebody else has unmounted it
            unmount(self.mountpoint)
        os.close(self.device)
        log.info("unmounted %s", self.mountpoint)


def open_mount(mountpoint: Path, options: MountOptions) -> Mount:
    """Mount, and keep the kernel's first request.

    The directory is made if it is missing; a dead mount that a killed process left there is
    taken away first.

    Raises:
        ThinfsError: it cannot be mounted on, or the kernel or fusermount3 refuses.
    """
    check_device()
    mountpoint = _directory(mountpoint)
    text = options_here(options)
    device = _as_root(mountpoint, text) if os.geteuid() == 0 else _by_fusermount(mountpoint, text)
    init = os.read(device, INIT_BYTES)
    numbers = mountinfo.at(mountpoint)[-1].device
    return Mount(mountpoint, device, init, numbers, time.time_ns())


def is_at(mountpoint: Path, numbers: tuple[int, int]) -> bool:
    """Whether the mount on top of a directory is a certain one of ours."""
    mounts = mountinfo.at(mountpoint)
    return bool(mounts) and (mounts[-1].kind, mounts[-1].device) == (KIND, numbers)


def _directory(mountpoint: Path) -> Path:
    mountpoint = Path(os.path.abspath(mountpoint))  # noqa: PTH100 - resolve() would ask a dead mount
    sweep_dead_mounts(mountpoint)
    try:
        mountpoint.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{mountpoint}: {error.strerror}") from error
    return prepare_mountpoint(mountpoint)


def _as_root(mountpoint: Path, text: set[str]) -> int:
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{DEVICE}: {error.strerror}") from error
    flags = _RDONLY | (0 if "suid" in text else _NOSUID) | (0 if "dev" in text else _NODEV)
    asked = text & {"default_permissions", "allow_other"}
    data = ",".join((f"fd={device}", "rootmode=40000", "user_id=0", "group_id=0", *sorted(asked)))
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(mountpoint)
    if libc.mount(b"thinfs", target, KIND.encode(), flags, data.encode()) != 0:
        number = ctypes.get_errno()
        os.close(device)
        raise StoreError(f"cannot mount at {mountpoint}: {os.strerror(number)}")
    return device


def _by_fusermount(mountpoint: Path, text: set[str]) -> int:
    """Fusermount3 is setuid: it opens the device, mounts, and passes the descriptor back."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = ["fusermount3", "-o", ",".join(sorted(text)), "--", str(mountpoint)]
        environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        try:
            done = subprocess.run(
                command,
                env=environment,
                pass_fds=(theirs.fileno(),),
                capture_output=True,
                text=True,
                timeout=FUSERMOUNT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StoreError(f"fusermount3: {error}: install fuse3") from error
        if done.returncode != 0:
            why = " ".join(done.stderr.split())
            raise StoreError(f"cannot mount at {mountpoint}: {why}")
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise StoreError(f"cannot mount at {mountpoint}: fusermount3 passed no descriptor")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]
