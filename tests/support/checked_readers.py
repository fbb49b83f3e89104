"""Readers that compare every byte of what they read, whatever happens to who serves it."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATIENCE_S = 60.0


class CheckedReaders:
    """Reads files of a directory from any number of threads.

    Args:
        at: the directory.
        bodies: what its files have to hold, by name.

    Attributes:
        done: files that were read.
        wrong: what went wrong, one line a file.
    """

    def __init__(self, at: Path, bodies: Mapping[str, bytes]) -> None:
        self.done = 0
        self.wrong: list[str] = []
        self._at = at
        self._expected = {name: hashlib.sha256(body).digest() for name, body in bodies.items()}
        self._lock = threading.Lock()

    def read(self, name: str) -> None:
        """Read one file and compare it."""
        try:
            body = (self._at / name).read_bytes()
            right = hashlib.sha256(body).digest() == self._expected[name]
            problem = "" if right else "other bytes"
        except OSError as error:
            problem = str(error)
        with self._lock:
            self.done += 1
            if problem:
                self.wrong.append(f"{name}: {problem}")

    def wait_for(self, files: int) -> None:
        """Wait until so many are read."""
        wait_until(lambda: self.done >= files, f"{files} files", timeout_s=PATIENCE_S)
