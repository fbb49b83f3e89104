"""How much of the link may be used for what nobody waits for. Pure: time is an argument."""

from __future__ import annotations

from typing import Final

BURST_S: Final = 0.5
"""What has not been used for so long may be used at once."""


class TokenBucket:
    """Bytes that may be received, filled at a constant rate.

    What is taken may be more than there is; then nobody else starts until that is paid back. So
    the rate holds over time, whatever the sizes.

    Args:
        bytes_per_s: the rate; 0: no limit.
        now: on the clock of all calls.
    """

    def __init__(self, bytes_per_s: int, now: float) -> None:
        self._rate = bytes_per_s
        self._most = bytes_per_s * BURST_S
        self._bytes = self._most
        self._at = now

    def wait_s(self, now: float) -> float:
        """Seconds until something may start; 0: now."""
        self._fill(now)
        # A part of a byte is owed for ever: it is what rounding leaves.
        return 0.0 if self._bytes > -1 or not self._rate else -self._bytes / self._rate

    def take(self, count: int, now: float) -> None:
        """``count`` bytes are used; negative: they were not, after all."""
        self._fill(now)
        self._bytes = min(self._bytes - count, self._most)

    def _fill(self, now: float) -> None:
        self._bytes = min(self._bytes + (now - self._at) * self._rate, self._most)
        self._at = now
