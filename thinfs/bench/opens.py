"""Which cached contents a container opened, past the daemon: fanotify on the cache's folders.

The kernel's own file systems serve what is in the cache, so no process of ours sees it read.
Watching costs nothing while the container starts: events are kept in the kernel, without
descriptors, until they are collected.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

# linux/fanotify.h
_NONBLOCK: Final = 0x02
_CLOEXEC: Final = 0x01
_UNLIMITED_QUEUE: Final = 0x10
_REPORT_FID: Final = 0x200
_REPORT_DIR_FID: Final = 0x400
_REPORT_NAME: Final = 0x800
_MARK_ADD: Final = 0x01
_OPEN: Final = 0x20
_EVENT_ON_CHILD: Final = 0x0800_0000
_AT_FDCWD: Final = -100
_EVENT: Final = struct.Struct("=IBBHQii")
_INFO_BYTES: Final = 12
"""Header of a record of information (4 bytes) and the file system's id (8)."""

_HANDLE: Final = struct.Struct("=Ii")
_INFO_NAME: Final = 2
_READ_BYTES: Final = 1 << 20


class Opens:
    """Watches the folders below ``contents/`` of a cache; a context manager.

    Args:
        contents: the folder; its 256 folders exist already.
    """

    def __init__(self, contents: Path) -> None:
        self._contents = contents
        self._fd = -1

    def __enter__(self) -> Self:
        libc = ctypes.CDLL(None, use_errno=True)
        flags = _NONBLOCK | _CLOEXEC | _UNLIMITED_QUEUE
        self._fd = libc.fanotify_init(
            flags | _REPORT_FID | _REPORT_DIR_FID | _REPORT_NAME, os.O_RDONLY
        )
        if self._fd >= 0 and not all(self._mark(libc, each) for each in self._contents.iterdir()):
            self.__exit__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def collect(self, but_of: Collection[int]) -> set[str] | None:
        """Names of files that were opened since the last call; ``None``: it cannot be known.

        Args:
            but_of: process ids whose opens do not count.
        """
        if self._fd < 0:
            return None
        found: set[str] = set()
        while True:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return found
            found.update(name for pid, name in opened(data) if pid not in but_of)

    def _mark(self, libc: ctypes.CDLL, folder: Path) -> bool:
        mask = ctypes.c_uint64(_OPEN | _EVENT_ON_CHILD)
        done: int = libc.fanotify_mark(self._fd, _MARK_ADD, mask, _AT_FDCWD, os.fsencode(folder))
        return done == 0


def opened(data: bytes) -> Iterator[tuple[int, str]]:
    """(process id, name of the file) of each event that was read from fanotify."""
    at = 0
    while at + _EVENT.size <= len(data):
        length, _, _, header, _, _, pid = _EVENT.unpack_from(data, at)
        info = data[at + header : at + length]
        if info and info[0] == _INFO_NAME:
            handle_bytes, _ = _HANDLE.unpack_from(info, _INFO_BYTES)
            name = info[_INFO_BYTES + _HANDLE.size + handle_bytes :]
            yield pid, name.partition(b"\0")[0].decode("ascii", "replace")
        at += length
