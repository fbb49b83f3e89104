"""One daemon at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def only_one(lock: Path, what: str) -> Iterator[int]:
    """Hold a lock file for the block; a killed process holds nothing.

    Args:
        lock: the file; it stays, for removing it would let two processes lock two files.
        what: is being locked, for the message.

    Gives:
        Its descriptor: a process that inherits it holds the lock as well.

    Raises:
        StoreError: another process has it, or the file cannot be written.
    """
    try:
        lock.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{lock}: {error.strerror}") from error
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read(20).decode(errors="replace").strip() or "unknown"
            raise StoreError(
                f"another thinfs daemon (process {holder}) uses {what}: stop it first,"
                " or give this one another place in its configuration"
            ) from None
        sign(file.fileno())
        yield file.fileno()


def sign(lock: int) -> None:
    """Write this process's number into a lock file that it holds."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
