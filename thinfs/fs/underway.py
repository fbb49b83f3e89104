"""Requests that are being answered, and since when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Underway:
    """Knows how long the oldest of them has been waiting.

    Args:
        now: a clock that only goes forward, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began: dict[int, float] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._began)

    def begin(self) -> int:
        """A request has come; gives what :meth:`end` wants."""
        self._last += 1
        self._began[self._last] = self._now()
        return self._last

    def end(self, number: int) -> None:
        """It is answered."""
        del self._began[number]

    def oldest_s(self) -> float:
        """Age of the oldest one in seconds, 0 when there is none."""
        for began in self._began.values():  # in the order in which they came
            return self._now() - began
        return 0.0
