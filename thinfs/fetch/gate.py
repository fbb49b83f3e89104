"""Who may use the network now: a bounded number of downloads, the most urgent first."""

from __future__ import annotations

import enum
import heapq
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Priority(enum.IntEnum):
    """How urgent a download is; smaller goes first."""

    DEMAND = 0  # a reader waits
    PROFILE = 1  # readers came for it at earlier starts of the same image
    READ_AHEAD = 2  # a reader will probably come
    BACKGROUND = 3  # nobody waits


class Ticket:
    """One download's place in the queue; its priority may rise while it waits.

    Attributes:
        priority: how urgent it is now.
        may_start: set by the gate; replaced for each slot.
        raised: set when the priority rises; replaced at once.
    """

    def __init__(self, priority: Priority) -> None:
        self.priority = priority
        self.may_start = trio.Event()
        self.raised = trio.Event()


class Gate:
    """Slots for downloads.

    Less urgent downloads leave slots free for readers who may come: profiles go on while at most
    three eighths of them are busy, read-ahead a quarter, background an eighth. So few fill the
    link already, and what a reader waits for has to share it with them: figures are in
    docs/decisions/0005-libcurl.md.

    Invariant, true at every checkpoint: nobody waits who may start.
    """

    def __init__(self, slots: int) -> None:
        self._limits = {
            Priority.DEMAND: slots,
            Priority.PROFILE: max(1, slots * 3 // 8),
            Priority.READ_AHEAD: max(1, slots // 4),
            Priority.BACKGROUND: max(1, slots // 8),
        }
        self._busy = 0
        self._order = itertools.count()
        self._waiting: list[tuple[Priority, int, Ticket]] = []

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self._busy

    @asynccontextmanager
    async def slot(self, ticket: Ticket) -> AsyncIterator[None]:
        """Wait for a slot and keep it for the block. A ticket is used for one block at a time."""
        ticket.may_start = trio.Event()
        self._enqueue(ticket)
        self._let_in()
        try:
            await ticket.may_start.wait()
            yield
        finally:
            if ticket.may_start.is_set():
                self._busy -= 1
            else:
                self._forget(ticket)
            self._let_in()

    def raise_priority(self, ticket: Ticket, priority: Priority) -> None:
        """Let a waiting ticket go before others; a lower priority than it has changes nothing."""
        if priority >= ticket.priority:
            return
        ticket.priority = priority
        ticket.raised.set()
        ticket.raised = trio.Event()
        if any(ticket is waiting for _, _, waiting in self._waiting):
            self._forget(ticket)
            self._enqueue(ticket)
            self._let_in()

    def _enqueue(self, ticket: Ticket) -> None:
        heapq.heappush(self._waiting, (ticket.priority, next(self._order), ticket))

    def _forget(self, ticket: Ticket) -> None:
        self._waiting = [entry for entry in self._waiting if entry[2] is not ticket]
        heapq.heapify(self._waiting)

    def _let_in(self) -> None:
        # Limits fall with urgency: when the most urgent may not start, nobody may.
        while self._waiting and self._busy < self._limits[self._waiting[0][0]]:
            _, _, ticket = heapq.heappop(self._waiting)
            self._busy += 1
            ticket.may_start.set()
