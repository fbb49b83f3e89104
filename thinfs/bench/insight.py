"""What a daemon of ours knows about a start: counters, trace, and what was read past it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, Self

from thinfs.bench import trace as traces
from thinfs.bench.layout import objects_of
from thinfs.bench.leftovers import marked
from thinfs.bench.opens import Opens
from thinfs.bench.values import Details
from thinfs.errors import ThinfsError

if TYPE_CHECKING:
    from thinfs.bench.nodes import ThinNode
    from thinfs.control.values import FetchStatus, Trace


SETTLE_S: Final = 0.1
MAX_SETTLE_S: Final = 3.0


class Insight:
    """Watches one start of a thin container; a context manager that is entered before it.

    Args:
        node: whose daemon serves it.

    Attributes:
        trace: what the daemon told, once :meth:`details` has been called.
    """

    def __init__(self, node: ThinNode) -> None:
        self._node = node
        self._opens = Opens(node.cache / "contents")
        self.trace: Trace | None = None

    def __enter__(self) -> Self:
        self._opens.__enter__()
        self._before = self._counters()
        self._ready = self._quiet = self._before
        self._opened: set[str] | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._opens.__exit__()

    def note_ready(self) -> None:
        """Take the counters, now that the container is ready."""
        self._ready = self._counters()
        self._opened = self._opens.collect(marked(self._node.folder))

    def note_settled(self) -> None:
        """Take the counters, now that the line is quiet: to ask for paths may fetch a catalog."""
        self._quiet = self._settled()

    def details(self, began_unix_s: float, ready_s: float) -> Details:
        """All that is known; call it after both notes, while the container is still there.

        Args:
            began_unix_s: when the start began.
            ready_s: seconds until the container was ready.
        """
        known = Details(
            requests=self._ready.requests - self._before.requests,
            bytes=self._ready.bytes - self._before.bytes,
            settled_bytes=self._quiet.bytes - self._before.bytes,
        )
        trace = self.trace = self._trace()
        return known if trace is None else self._explained(known, trace, began_unix_s, ready_s)

    def _explained(
        self, known: Details, trace: Trace, began_unix_s: float, ready_s: float
    ) -> Details:
        return Details(
            requests=known.requests,
            bytes=known.bytes,
            settled_bytes=known.settled_bytes,
            stalled_s=traces.stalled(trace, began_unix_s, ready_s),
            waits=traces.waits(trace, began_unix_s, ready_s),
            bars=traces.bars(trace, began_unix_s, ready_s),
            unread_bytes=self._unread(traces.until(trace, began_unix_s + ready_s)),
            dropped=trace.dropped,
        )

    def _unread(self, trace: Trace) -> int | None:
        if self._opened is None:
            return None
        objects = objects_of(self._node.cache, traces.fetched(trace))
        return traces.unread(trace, objects.pieces, objects.sizes, self._opened)

    def _settled(self) -> FetchStatus:
        """The counters when they stand still: what has arrived is counted when it is verified."""
        deadline = time.monotonic() + MAX_SETTLE_S
        last = self._counters()
        while time.monotonic() < deadline:
            time.sleep(SETTLE_S)
            now = self._counters()
            if now.bytes == last.bytes and now.waiting == 0:
                break
            last = now
        return last

    def _counters(self) -> FetchStatus:
        return self._node.control.status().fetch

    def _trace(self) -> Trace | None:
        """Of the one root that is attached, if there is one and this daemon keeps traces."""
        for root in self._node.control.roots():
            with contextlib.suppress(ThinfsError):  # figures are worth more than their story
                return self._node.control.trace(root.id)
        return None
