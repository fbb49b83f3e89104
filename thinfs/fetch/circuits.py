"""Which repositories and proxies answer, and when those that do not are preferred again. Pure.

A circuit opens when all attempts have failed, and closes with the first answer. What is open is
asked after what is not; when its time has come one download tries it, and the others go on
without it until that one knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBE_S: Final = 15.0
"""How long one download may take to find out before the next one tries."""

RECOVERY_S: Final = 2.0
"""How long something that failed is left alone by downloads that can wait, or want to give up."""

ASKED_S: Final = 5.0
"""How long they leave it alone while one of them asks: a silent server keeps few of them busy."""

MAX_ERROR_CHARACTERS: Final = 300


@dataclass(slots=True)
class Circuit:
    """One repository or proxy that has been asked.

    Attributes:
        failures: how often all attempts failed; never falls.
        failed_since: when the first attempt failed since the last answer, on the loop's clock;
            ``None``: it answers.
        next_try: when it is preferred again.
        alone_until: until then downloads that can wait do not ask it.
        error: the last one, for people.
    """

    failures: int = 0
    failed_since: float | None = None
    next_try: float = 0.0
    alone_until: float = 0.0
    error: str = ""


class Circuits:
    """The circuits of one kind.

    Args:
        reset_s: how long something that failed is asked after others.
    """

    def __init__(self, reset_s: float) -> None:
        self._reset_s = reset_s
        self._known: dict[str, Circuit] = {}

    def items(self) -> Iterator[tuple[str, Circuit]]:
        """All that have been asked, by address."""
        return iter(self._known.items())

    def rests(self, address: str, now: float) -> bool:
        """Whether others are asked before this one."""
        circuit = self._known.get(address)
        return circuit is not None and circuit.failed_since is not None and now < circuit.next_try

    def recovers(self, address: str, now: float) -> bool:
        """Whether it has just failed, or somebody finds out, or it asked to be left alone."""
        circuit = self._known.get(address)
        if circuit is None or circuit.failed_since is None:
            return False
        return now < circuit.alone_until

    def error(self, address: str) -> str:
        """Its last failure; empty when there was none."""
        circuit = self._known.get(address)
        return circuit.error if circuit else ""

    def asked(self, address: str, now: float) -> None:
        """A download asks it now; if it is a probe, it is the only one for a while."""
        circuit = self._known.setdefault(address, Circuit())
        if circuit.failed_since is not None:
            circuit.next_try = max(circuit.next_try, now + PROBE_S)
            circuit.alone_until = now + ASKED_S

    def failed(self, address: str, error: str, now: float, retry_after_s: float = 0.0) -> bool:
        """All attempts have failed; says whether that is news."""
        circuit = self._known.setdefault(address, Circuit())
        news = circuit.failed_since is None
        if circuit.failed_since is None:
            circuit.failed_since = now
        circuit.failures += 1
        circuit.next_try = now + (retry_after_s or self._reset_s)
        circuit.alone_until = now + max(retry_after_s, RECOVERY_S)
        circuit.error = error[:MAX_ERROR_CHARACTERS]
        return news

    def answered(self, address: str) -> bool:
        """It has sent something; says whether that is news."""
        circuit = self._known.setdefault(address, Circuit())
        news = circuit.failed_since is not None
        circuit.failed_since = None
        return news
