"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_INTERVAL_S = 0.01


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 30.0) -> None:
    """Return as soon as ``condition()`` is true.

    Raises:
        TimeoutError: it was not true within ``timeout_s`` seconds; the message names ``what``.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(_INTERVAL_S)
