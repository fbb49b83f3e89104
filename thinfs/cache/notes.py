"""What the event loop notes about cached files until a thread writes it down."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thinfs.cache.places import Kind

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """Notes to write down; nobody adds to them any more.

    Attributes:
        uses: last use in nanoseconds since the epoch, by kind and digest.
        suspects: whole contents that the disk does not give back as they were written.
    """

    uses: Mapping[tuple[Kind, bytes], int]
    suspects: tuple[bytes, ...]


class Notes:
    """Notes of one process; only the thread that runs the event loop uses it."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._uses: dict[tuple[Kind, bytes], int] = {}
        self._suspects: set[bytes] = set()

    def used(self, kind: Kind, digest: bytes) -> None:
        """A file was used now."""
        self._uses[kind, digest] = self._now_ns()

    def suspect(self, digest: bytes) -> None:
        """A whole content is damaged: it is not used until it has been removed."""
        if digest not in self._suspects:
            self._suspects.add(digest)
            log.warning("cached content %s is damaged: it is fetched again", digest.hex())

    def is_suspect(self, digest: bytes) -> bool:
        """Whether a whole content must not be used."""
        return digest in self._suspects

    def take(self) -> Taken:
        """What was noted since the last time; give it to :meth:`done` when it is written."""
        taken = Taken(self._uses, tuple(self._suspects))
        self._uses = {}
        return taken

    def done(self, taken: Taken) -> None:
        """The suspects are gone."""
        self._suspects.difference_update(taken.suspects)
