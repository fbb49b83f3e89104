"""The door between the event loop and the cache's disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = logging.getLogger(__name__)

PAUSE_S: Final = 10.0
"""After a failure nothing is kept for so long: a full disk is not full of noise as well."""


class Disk:
    """Runs the cache's synchronous work in a thread, one piece at a time.

    A failing disk never fails a reader. It is reported once when it begins to fail, and once
    when something could be kept again; in between what arrives is not kept.

    Attributes:
        works: whether what arrives is kept.
        failures: pieces of work that failed.
    """

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.failures = 0
        self._try_again = 0.0
        # One: the book-keeping's connection belongs to one thread at a time.
        self._turn = trio.CapacityLimiter(1)

    @property
    def paused(self) -> bool:
        """Whether a failure is so recent that nothing is to be kept yet."""
        return not self.works and trio.current_time() < self._try_again

    async def run(self, work: Callable[[], T]) -> T:
        """Do a piece of work.

        Raises:
            StoreError: the disk fails; it has been reported.
        """
        try:
            return await trio.to_thread.run_sync(work, limiter=self._turn)
        except StoreError as error:
            self._failed(error)
            raise

    async def attempt(self, work: Callable[[], T]) -> T | None:
        """Do a piece of work; ``None`` when the disk fails."""
        try:
            return await self.run(work)
        except StoreError:
            return None

    def wrote(self) -> None:
        """Something that arrived has been kept."""
        if not self.works:
            self.works = True
            log.warning("what arrives is kept in the cache again")

    def _failed(self, error: StoreError) -> None:
        self.failures += 1
        self._try_again = trio.current_time() + PAUSE_S
        if self.works:
            self.works = False
            log.warning("what arrives is not kept in the cache for now: %s", error)
