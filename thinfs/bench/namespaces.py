"""Doing something in another network namespace, in a thread of its own."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000


def enter(namespace: Path) -> None:
    """Move the calling thread, and no other, into a network namespace: for good.

    Raises:
        StoreError: it is gone, or this is not root.
    """
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise StoreError(f"cannot enter network namespace {namespace}: {reason}")
    finally:
        os.close(fd)


def call_in(namespace: Path, action: Callable[[], T]) -> T:
    """Call ``action`` in a network namespace; sockets and files it opens stay there."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter(namespace)
            results.append(action())
        except BaseException as error:  # the caller's thread raises it
            errors.append(error)

    thread = threading.Thread(target=run, name="in-namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
