"""Metadata images that stay in memory while their roots are mounted.

The kernel reads the metadata of a mounted file in single blocks of 4 KiB, each when it is needed,
and never ahead. So a container whose node has little memory left, or has just started, would wait
for the disk a thousand times in a find over 20 000 files. An image is a tenth of what the kernel
needs to remember as many inodes of a disk's file system, so it is read at once and kept.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

MAX_HELD_BYTES: Final = 256 << 20
"""Most memory for all roots together: some fifty of 20 000 files. Others are read from disk."""

_FAILED: Final = ctypes.c_void_p(-1).value


class HeldFiles:
    """Files whose pages are locked in memory, by name; any thread may use it.

    Args:
        max_bytes: for all together.
    """

    def __init__(self, max_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._held: dict[str, tuple[int, int]] = {}

    @property
    def bytes(self) -> int:
        """What they take."""
        return sum(size for _, size in self._held.values())

    def hold(self, name: str, path: Path) -> bool:
        """Read a file and keep it in memory, in place of another one of the same name.

        Returns:
            Whether that was possible: there is a bound, and the kernel has one of its own.
        """
        with self._lock:
            self._let_go(name)
            try:
                self._held[name] = _locked(path, self._max_bytes - self.bytes)
            except OSError as error:
                log.debug("%s is not held in memory: %s", path, error.strerror)
                return False
            return True

    def let_go(self, name: str) -> None:
        """Keep a file no longer; nothing happens when it is not held."""
        with self._lock:
            self._let_go(name)

    def _let_go(self, name: str) -> None:
        if name in self._held:
            _libc().munmap(*self._held.pop(name))


def _locked(path: Path, room: int) -> tuple[int, int]:
    """Where a file is in memory, and its size.

    Raises:
        OSError: it is larger than ``room``, or the kernel refuses.
    """
    libc = _libc()
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(handle).st_size
        if not 0 < size <= room:
            raise OSError(0, f"{size} bytes, and there is room for {room}")
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
        if address == _FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(handle)
    if libc.mlock(address, size) != 0:
        number = ctypes.get_errno()
        libc.munmap(address, size)
        raise OSError(number, os.strerror(number))
    return address, size


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.restype = pointer
    libc.mmap.argtypes = [pointer, size, number, number, number, ctypes.c_long]
    libc.mlock.argtypes = libc.munmap.argtypes = [pointer, size]
    return libc
