"""When a worker is replaced, and how soon: no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

QUICK_S: Final = 2.0
"""A worker that ends sooner than this after it began to serve has ended at once."""

FIRST_DELAY_S: Final = 0.25
LONGEST_DELAY_S: Final = 10.0

START_S: Final = 60.0
"""How long a worker may take to its first sign of life: an interpreter starts on a busy machine."""

ASLEEP_S: Final = 1.0
"""A supervisor that comes this much too late was not run itself, and cannot judge others."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long to wait before the next worker starts.

    The first death costs nothing: readers wait. Only workers that die one after the other, and
    at once, are started more and more slowly.

    Attributes:
        quick: how many in a row have ended at once.
    """

    quick: int = 0

    def after(self, served_s: float | None) -> BackOff:
        """The state after one more death.

        Args:
            served_s: how long it had served; ``None``: it never did.
        """
        return BackOff(self.quick + 1 if served_s is None or served_s < QUICK_S else 0)

    @property
    def delay_s(self) -> float:
        """Seconds until the next start."""
        if self.quick < 2:
            return 0.0
        return min(FIRST_DELAY_S * 2.0 ** min(self.quick - 2, 16), LONGEST_DELAY_S)


@dataclass(frozen=True, slots=True)
class Pulse:
    """Whether a worker lives, judged by its signs of life.

    Attributes:
        hang_s: longest silence of a worker that has been heard.
        last: when it was heard last; before that, when it was started.
        heard: whether it was ever heard.
    """

    hang_s: float
    last: float
    heard: bool = False

    def beat(self, now: float) -> Pulse:
        """A sign of life."""
        return Pulse(self.hang_s, now, heard=True)

    def forgive(self, late_s: float, now: float) -> Pulse:
        """The judge itself was late: silence counts from now on."""
        return Pulse(self.hang_s, now, self.heard) if late_s > ASLEEP_S else self

    @property
    def due(self) -> float:
        """When it is taken for hung if nothing is heard until then."""
        return self.last + (self.hang_s if self.heard else max(self.hang_s, START_S))
