"""Objects that a root's containers are going to need, fetched before they ask.

One task a root takes objects in the order it is given, leaves out what this node has already,
and keeps a bounded number on their way. Each lands as if somebody had asked for it: in memory,
and in the cache's ``contents/``, where a native root finds it without asking.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from catalog.errors import CatalogError
from thinfs.errors import ThinfsError
from thinfs.fetch.gate import Priority

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from catalog.model import ObjectRef
    from thinfs.cache.objects import Objects
    from thinfs.cache.presence import Presence
    from thinfs.cache.root import RootContents

log = logging.getLogger(__name__)

PARALLEL: Final = 4
"""Objects of one root on their way at once, of 1 MiB at most each. Enough to fill a link, and
few enough to need few connections: on a link that is full a new one may lose its first packet,
and its object, which somebody waits for by then, comes a second late (measured with 12)."""

FIRST_PARALLEL: Final = 2
"""How many at first; one more with each that has come. All that are on their way share the link:
the first ones, which a start waits for first, are here sooner when they share it with few. A link
with a long way, which carries many at once, still has as many soon, as with TCP's slow start."""

FIRST_LOOK: Final = 4
NEXT_LOOK: Final = 64
"""Objects that the disk is asked about at once: few at first, so that the first one leaves soon."""

QUIET_S: Final = 0.5
"""How long nobody must have waited for anything before one more object comes in the background;
it comes after that time in any case, so that the background ends also where there is no rest."""

BACKGROUND_PARALLEL: Final = 2
"""Of objects that nobody waits for. They share the link with those that somebody waits for."""

MAX_FAILURES: Final = 8
"""Objects in a row that cannot be had before a stage is left for a while."""

ATTEMPTS: Final = 10
PAUSE_S: Final = 30.0
"""How often a stage is begun that could not be finished, and how long after."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Objects to fetch.

    Attributes:
        priority: how urgent they are.
        objects: gives them, in order; asked when the stage begins, and may wait.
        not_before_s: how long after the first stage it may begin.
    """

    priority: Priority
    objects: Callable[[], Awaitable[Sequence[ObjectRef]]]
    not_before_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Running:
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class Prefetches:
    """Prefetching for all roots of a node.

    Args:
        nursery: where it runs.
        objects: brings objects.
        presence: knows what is on this disk.
    """

    def __init__(self, nursery: trio.Nursery, objects: Objects, presence: Presence) -> None:
        self._nursery = nursery
        self._objects = objects
        self._presence = presence
        self._running: dict[str, list[_Running]] = {}
        self._stopping: list[trio.Event] = []

    def begin(self, root_id: str, root: RootContents, stages: Sequence[Stage]) -> None:
        """Fetch what the stages name, one after the other, until :meth:`stop`."""
        assert root_id not in self._running
        self._running[root_id] = []
        self.also(root_id, partial(self._stages, root, stages))

    def also(self, root_id: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do something else for a root until :meth:`stop`, if anything is done for it."""
        if root_id in self._running:
            running = _Running()
            self._running[root_id].append(running)
            self._nursery.start_soon(self._run, root_id, running, work)

    def stop(self, root_id: str) -> None:
        """Stop soon; nothing happens when nothing runs."""
        for running in self._running.pop(root_id, ()):
            running.scope.cancel()
            self._stopping.append(running.ended)

    async def stopped(self) -> None:
        """Wait until what was stopped asks nothing of its root any more."""
        while self._stopping:
            await self._stopping[-1].wait()
            self._stopping.pop()

    async def _stages(self, root: RootContents, stages: Sequence[Stage]) -> None:
        began = trio.current_time()
        for stage in stages:
            await trio.sleep_until(began + stage.not_before_s)
            await self._finish(root, stage)

    async def _run(
        self, root_id: str, running: _Running, work: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            with running.scope:
                await work()
        except Exception:  # nobody waits for it, and other roots need this process
            log.exception("prefetching ended")
        finally:
            running.ended.set()
            if running in self._running.get(root_id, ()):
                self._running[root_id].remove(running)

    async def _finish(self, root: RootContents, stage: Stage) -> None:
        """Fetch a stage's objects; what cannot be had for long is left to who asks for it."""
        for _ in range(ATTEMPTS):
            try:
                if await self._attempt(root, stage):
                    return
            except (ThinfsError, CatalogError) as error:
                log.debug("prefetching pauses: %s", error)
            await trio.sleep(PAUSE_S)

    async def _attempt(self, root: RootContents, stage: Stage) -> bool:
        """Fetch what is not here; whether all of it came."""
        refs = await stage.objects()
        send, receive = trio.open_memory_channel[bytes](0)
        async with trio.open_nursery() as nursery:
            run = _Run(root, self._objects, stage.priority, nursery)
            async with receive:
                for _ in range(FIRST_PARALLEL):
                    run.one_more(receive)
            async with send:
                await self._choose(root, refs, send)
        return run.failed == 0

    async def _choose(
        self,
        root: RootContents,
        refs: Sequence[ObjectRef],
        send: trio.MemorySendChannel[bytes],
    ) -> None:
        """Hand on what is not here."""
        start, size = 0, FIRST_LOOK
        while start < len(refs):
            group = [ref.digest for ref in refs[start : start + size]]
            try:
                for digest in await self._presence.lacking(root, group):
                    await send.send(digest)
            except trio.BrokenResourceError:  # all have given up
                return
            start, size = start + size, NEXT_LOOK


@dataclass(slots=True)
class _Run:
    """One attempt at one stage, shared by those who fetch."""

    root: RootContents
    objects: Objects
    priority: Priority
    nursery: trio.Nursery
    fetching: int = 0
    failed: int = 0
    in_a_row: int = 0

    def one_more(self, receive: trio.MemoryReceiveChannel[bytes]) -> None:
        """Let one more object be on its way, if there may be more."""
        background = self.priority is Priority.BACKGROUND
        if self.fetching < (BACKGROUND_PARALLEL if background else PARALLEL):
            self.fetching += 1
            self.nursery.start_soon(self.fetch, receive.clone())

    async def fetch(self, receive: trio.MemoryReceiveChannel[bytes]) -> None:
        async with receive:
            async for digest in receive:
                if self.priority is Priority.BACKGROUND:
                    await self._rest()
                try:
                    await self.objects.ahead(self.root, digest, self.priority)
                    self.in_a_row = 0
                    self.one_more(receive)
                except ThinfsError as error:
                    log.debug("prefetching: %s", error)
                    self.failed += 1
                    self.in_a_row += 1
                if self.in_a_row >= MAX_FAILURES:
                    return

    async def _rest(self) -> None:
        now = trio.current_time()
        await trio.sleep(min(max(self.objects.last_demand + QUIET_S - now, 0), QUIET_S))
