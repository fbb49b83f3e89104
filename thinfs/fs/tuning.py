"""What the kernel does with a mount beyond its options: read-ahead and parallel reads.

Both are knobs of the connection that no mount option sets. Where they cannot be turned (not
root, no control file system) the mount works as well, only slower.
"""

from __future__ import annotations

import ctypes
import logging
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

MAX_BACKGROUND: Final = 512
"""Reads ahead that the kernel sends at once. Of its default of 12, a dozen readers that wait for
a repository take all, and files that are here wait behind them."""

CONGESTED: Final = MAX_BACKGROUND * 3 // 4
"""From how many on the kernel reads less far ahead: three quarters, as by default."""

TREE_READ_AHEAD_KIB: Final = 4096
"""Where the mount serves everything: with the kernel's 128 KiB a sequential reader gets a sixth of
the throughput (measured)."""

NATIVE_READ_AHEAD_KIB: Final = 128
"""Where the mount serves what the cache has not: that comes no faster than the network, and larger
steps fetch what nobody asked for. A start of Redis by its boot profile fetched 11 MB with
4096 KiB, and 4.4 MB with this value, the one that it was recorded with."""

CONTROL: Final = Path("/sys/fs/fuse/connections")

_MOUNT_QUIETLY: Final = 0xE  # MS_NOSUID | MS_NODEV | MS_NOEXEC
_MNT_DETACH: Final = 2


def read_ahead(configured_kib: int, *, native: bool) -> int:
    """How far the kernel is to read ahead on a mount, in KiB.

    Args:
        configured_kib: by the configuration; 0: as suits the mount.
        native: whether roots are served natively.
    """
    return configured_kib or (NATIVE_READ_AHEAD_KIB if native else TREE_READ_AHEAD_KIB)


def tune(device: tuple[int, int], read_ahead_kib: int) -> None:
    """Turn a mount's knobs as far as this user may.

    Args:
        device: major and minor number of the mount.
        read_ahead_kib: how far the kernel reads ahead.
    """
    major, minor = device
    _write(Path(f"/sys/class/bdi/{major}:{minor}/read_ahead_kb"), read_ahead_kib)
    try:
        with fuse_connections() as connections:
            connection = connections / str(major << 20 | minor)  # as the kernel packs dev_t
            _write(connection / "max_background", MAX_BACKGROUND)
            _write(connection / "congestion_threshold", CONGESTED)
    except OSError as error:
        log.debug("the number of parallel reads stays as it is: %s", error)


@contextmanager
def fuse_connections() -> Iterator[Path]:
    """The FUSE control file system; where nobody has mounted it, for a moment and for us."""
    if any(CONTROL.iterdir()) or os.geteuid() != 0:
        yield CONTROL
        return
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(prefix="thinfs-fusectl-") as folder:
        place = os.fsencode(folder)
        if libc.mount(b"fusectl", place, b"fusectl", _MOUNT_QUIETLY, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), folder)
        try:
            yield Path(folder)
        finally:
            libc.umount2(place, _MNT_DETACH)


def _write(knob: Path, value: int) -> None:
    try:
        knob.write_text(str(value))
    except OSError as error:
        log.debug("%s stays as it is: %s", knob, error.strerror)
