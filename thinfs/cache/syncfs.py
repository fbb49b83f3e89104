"""One system call that the standard library lacks."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)


def sync_file_system(path: Path) -> None:
    """Wait until everything written to the file system of ``path`` is on its disk (syncfs(2)).

    Raises:
        OSError: the disk failed to take something.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(handle) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), os.fspath(path))
    finally:
        os.close(handle)
