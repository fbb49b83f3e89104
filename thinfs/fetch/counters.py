"""What came from repositories, counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from thinfs.control.values import FetchStatus


@dataclass(slots=True)
class FetchCounters:
    """Running totals since the process started; only the event loop touches them.

    Attributes:
        requests: objects and catalogs asked for, each download once however many wait for it.
        bytes: received, compressed as they are stored.
        errors: attempts that failed, for whatever reason.
        integrity_errors: answers that were not what was asked for.
        retries: attempts that repeated one at the same source.
        waiting_since: start of every wait that goes on now, in the clock's seconds.
    """

    requests: int = 0
    bytes: int = 0
    errors: int = 0
    integrity_errors: int = 0
    retries: int = 0
    waiting_since: dict[int, float] = field(default_factory=dict)

    def status(self, now: float) -> FetchStatus:
        """A snapshot for the control API; ``now`` is on the clock of ``waiting_since``."""
        oldest = min(self.waiting_since.values(), default=now)
        return FetchStatus(
            requests=self.requests,
            bytes=self.bytes,
            errors=self.errors,
            integrity_errors=self.integrity_errors,
            waiting=len(self.waiting_since),
            oldest_wait_s=now - oldest,
        )
