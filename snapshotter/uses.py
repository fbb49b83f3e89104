"""Which snapshots are being worked on, so that cleanup keeps its hands off them."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Uses:
    """Shared and sole use of snapshots by their ids, for any number of threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared: Counter[int] = Counter()
        self._sole: set[int] = set()

    @contextmanager
    def shared(self, snapshot_id: int) -> Iterator[None]:
        """Use a snapshot beside others; waits while somebody has sole use of it."""
        with self._changed:
            self._changed.wait_for(lambda: snapshot_id not in self._sole)
            self._shared[snapshot_id] += 1
        try:
            yield
        finally:
            with self._changed:
                self._shared[snapshot_id] -= 1
                if not self._shared[snapshot_id]:
                    del self._shared[snapshot_id]

    @contextmanager
    def sole(self, snapshot_id: int) -> Iterator[bool]:
        """Try to use a snapshot alone; gives False at once when it is in use."""
        with self._changed:
            mine = snapshot_id not in self._shared and snapshot_id not in self._sole
            if mine:
                self._sole.add(snapshot_id)
        try:
            yield mine
        finally:
            if mine:
                with self._changed:
                    self._sole.remove(snapshot_id)
                    self._changed.notify_all()
