"""What happens to roots from the moment they are attached: for ``GET /v1/roots/ID/trace``.

Events are written down once and shared by the recorders of all attached roots: which of them an
event belongs to is found out when somebody asks. A recorder is full after a number of events, for
it is the beginning that matters; then it only counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from thinfs.control.values import Trace, TraceEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_EVENTS: Final = 20_000
"""Events that are kept of one root, some 200 bytes each; starting JupyterLab makes 6 000."""

MAX_RECORDED: Final = 1_000_000
"""The same in a recording, whose small reads make many more."""


class _Event(NamedTuple):
    """As :class:`TraceEvent`; ``name`` is a digest, a path in the repository, or a step's."""

    what: str
    began: float
    ended: float
    name: bytes | str
    offset: int = 0
    length: int = 0
    waited: bool = False


@dataclass(slots=True)
class _Recorder:
    origin: str
    began: float
    began_unix_s: float
    most: int
    events: list[_Event] = field(default_factory=list)
    dropped: int = 0

    def add(self, event: _Event) -> None:
        if len(self.events) < self.most:
            self.events.append(event)
        else:
            self.dropped += 1


@dataclass(frozen=True, slots=True)
class Belonging:
    """What belongs to a root.

    Attributes:
        content: whether a content does, by digest.
        object: whether an object does, by digest.
        files: its published files, by path in the repository.
        metadata: digest of its metadata image.
    """

    content: Callable[[bytes], bool]
    object: Callable[[bytes], bool]
    files: frozenset[str]
    metadata: bytes


class Traces:
    """Recorders of all attached roots.

    Implements :class:`thinfs.cache.watch.Watch` and :class:`thinfs.roots.steps.Steps`.

    Args:
        now: the event loop's clock, in seconds.
        unix_now: the wall clock, seconds since the epoch.
        most: events that are kept of one root.
    """

    def __init__(
        self,
        now: Callable[[], float] = trio.current_time,
        unix_now: Callable[[], float] = time.time,
        most: int = MAX_EVENTS,
    ) -> None:
        self._most = most
        self._now = now
        self._unix_now = unix_now
        self._recorders: dict[str, _Recorder] = {}

    # Steps

    def begin(self, root_id: str, origin: str) -> None:
        """Begin a trace; one that has begun goes on."""
        if root_id not in self._recorders:
            self._recorders[root_id] = _Recorder(origin, self._now(), self._unix_now(), self._most)

    def step(self, root_id: str, what: str, name: str, began: float) -> None:
        """A step has ended."""
        recorder = self._recorders.get(root_id)
        if recorder is not None:
            recorder.add(_Event(what, began, self._now(), name))

    def end(self, root_id: str) -> None:
        """Forget a trace."""
        self._recorders.pop(root_id, None)

    # Watch

    def read(self, digest: bytes, offset: int, length: int, began: float, *, waited: bool) -> None:
        """A range was answered."""
        self._add(_Event("read", began, self._now(), digest, offset, length, waited))

    def fetched(self, name: bytes | str, stored: int, began: float, *, demanded: bool) -> None:
        """Something has come."""
        what = "fetch" if demanded else "prefetch"
        self._add(_Event(what, began, self._now(), name, length=stored))

    def _add(self, event: _Event) -> None:
        for recorder in self._recorders.values():
            recorder.add(event)

    # Asking

    def contents(self, root_id: str) -> set[bytes]:
        """Digests of the contents that are in a trace; empty when there is none."""
        recorder = self._recorders.get(root_id)
        if recorder is None:
            return set()
        return {e.name for e in recorder.events if e.what == "read" and isinstance(e.name, bytes)}

    def trace(self, root_id: str, belonging: Belonging, paths: Mapping[bytes, str]) -> Trace | None:
        """What happened to a root; ``None`` when nobody has attached it.

        Args:
            root_id: the root.
            belonging: what belongs to it.
            paths: of contents, as far as they are known.
        """
        recorder = self._recorders.get(root_id)
        if recorder is None:
            return None
        events = [event for event in recorder.events if _belongs(event, belonging)]
        return Trace(
            root=root_id,
            origin=recorder.origin,
            began_unix_s=recorder.began_unix_s,
            events=[_told(event, recorder.began, belonging.metadata) for event in events],
            dropped=recorder.dropped,
            paths={digest.hex(): path for digest, path in paths.items()},
        )


def _belongs(event: _Event, belonging: Belonging) -> bool:
    if event.what == "read":
        assert isinstance(event.name, bytes)
        return belonging.content(event.name)
    if event.what not in ("fetch", "prefetch"):
        return True
    if isinstance(event.name, bytes):
        return belonging.object(event.name)
    return event.name in belonging.files


def _told(event: _Event, began: float, metadata: bytes) -> TraceEvent:
    name = event.name
    if isinstance(name, bytes):
        name = "metadata" if event.what == "read" and name == metadata else name.hex()
    return TraceEvent(
        what=event.what,
        at_s=round(event.began - began, 6),
        duration_s=round(event.ended - event.began, 6),
        name=name,
        offset=event.offset,
        length=event.length,
        waited=event.waited,
    )
