"""The door between the event loop and the cache's disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import trio

from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = logging.getLogger(__name__)


class Disk:
    """Runs the cache's synchronous work in a thread, one piece at a time.

    A failing disk never fails a reader: it is reported when it begins and when it ends, and
    in between what arrives is not kept.

    Attributes:
        works: whether the last piece of work succeeded.
        failures: pieces of work that failed.
    """

    def __init__(self) -> None:
        self.works = True
        self.failures = 0
        # One: the book-keeping's connection belongs to one thread at a time.
        self._turn = trio.CapacityLimiter(1)

    async def run(self, work: Callable[[], T]) -> T:
        """Do a piece of work.

        Raises:
            StoreError: the disk fails; it has been reported.
        """
        try:
            result = await trio.to_thread.run_sync(work, limiter=self._turn)
        except StoreError as error:
            self.failed(error)
            raise
        self.worked()
        return result

    async def attempt(self, work: Callable[[], T]) -> T | None:
        """Do a piece of work; ``None`` when the disk fails."""
        try:
            return await self.run(work)
        except StoreError:
            return None

    def failed(self, error: StoreError) -> None:
        """Report that the disk fails, once."""
        self.failures += 1
        if self.works:
            log.warning("nothing is kept in the cache for now: %s", error)
        self.works = False

    def worked(self) -> None:
        """Report that the disk works again, once."""
        if not self.works:
            log.warning("what arrives is kept in the cache again")
        self.works = True
