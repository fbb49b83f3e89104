"""Files that appear whole or not at all, and that survive a power cut."""

from __future__ import annotations

import ctypes
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def replacing(path: Path, *, durable: bool = True, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place when the block ends well.

    Args:
        path: the file to make or replace; its directory exists.
        durable: fsync the file before and the directory after the rename.
        mode: permission bits of the result.

    After an error, and after ``kill -9`` before the rename, ``path`` is as it was; only a
    killed process leaves the temporary file (``.<name>.*``).
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def write(path: Path, data: bytes, *, durable: bool = True, mode: int = 0o644) -> None:
    """Make or replace ``path`` with ``data`` in one step; see :func:`replacing`."""
    with replacing(path, durable=durable, mode=mode) as file:
        file.write(data)


def sync_directory(path: Path) -> None:
    """Make renames in a directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
