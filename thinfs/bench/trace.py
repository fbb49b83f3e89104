"""What a daemon's trace says about one start: who waited, how long, for what. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from thinfs.bench.values import Bar, Wait

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from thinfs.bench.layout import Piece
    from thinfs.control.values import Trace, TraceEvent

METADATA: Final = "metadata"
"""Name of the metadata image in a trace."""

METADATA_PATH: Final = "(metadata of the root)"
MAX_BARS: Final = 4_000
MAX_WAITS: Final = 100
SHORT_DIGEST: Final = 12

Span = tuple[float, float]


def bars(trace: Trace, began_unix_s: float, until_s: float) -> tuple[Bar, ...]:
    """The waterfall of a start, by begin.

    Args:
        trace: of its root.
        began_unix_s: when the start began.
        until_s: seconds after that; what begins later is left out.

    Returns:
        At most :data:`MAX_BARS`: short reads that did not wait go first when there are more.
    """
    shift = trace.began_unix_s - began_unix_s
    found = [
        Bar(_lane(event), event.at_s + shift, event.duration_s, label(trace, event), event.length)
        for event in trace.events
        if event.at_s + shift + event.duration_s >= 0 and event.at_s + shift <= until_s
    ]
    if len(found) > MAX_BARS:
        found.sort(key=lambda bar: (bar.lane not in {"open", "read"}, bar.seconds), reverse=True)
    return tuple(sorted(found[:MAX_BARS], key=lambda bar: bar.at_s))


def stalled(trace: Trace, began_unix_s: float, until_s: float) -> float:
    """Seconds of a start in which at least one reader waited for a fetch."""
    spans = (_span(trace, event, began_unix_s) for event in trace.events if _waits(event))
    return covered((max(begin, 0.0), min(end, until_s)) for begin, end in spans)


def waits(trace: Trace, began_unix_s: float, until_s: float) -> tuple[Wait, ...]:
    """What was waited for until then, the longest first."""
    by_path: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for event in trace.events:
        begin, end = _span(trace, event, began_unix_s)
        if _waits(event) and 0 <= begin <= until_s:
            by_path[label(trace, event)].append((begin, min(end, until_s) - begin, event.length))
    found = [
        Wait(
            path=path,
            seconds=sum(seconds for _, seconds, _ in each),
            at_s=min(begin for begin, _, _ in each),
            bytes=sum(length for _, _, length in each),
        )
        for path, each in by_path.items()
    ]
    return tuple(sorted(found, key=lambda wait: -wait.seconds)[:MAX_WAITS])


def unread(
    trace: Trace,
    pieces: Mapping[str, Sequence[Piece]],
    sizes: Mapping[str, int],
    opened: Collection[str],
) -> int:
    """Bytes of objects, as they were received, that nobody had read when the trace was taken.

    An object counts by the part of it that was not read: of a content that the kernel opened
    from the cache all of it counts as read, of one that came through the daemon what was asked.

    Args:
        trace: of a start.
        pieces: object → what lies in it; objects that are not among them count as unread.
        sizes: object → its uncompressed bytes.
        opened: contents that were opened in the cache, past the daemon.
    """
    asked: dict[str, list[Span]] = defaultdict(list)
    for event in trace.events:
        if event.what == "read":
            asked[event.name].append((event.offset, event.offset + event.length))
    left = 0.0
    for name, received in _received(trace).items():
        size = sizes.get(name, 0)
        read = sum(_read_of(piece, asked, opened) for piece in pieces.get(name, ()))
        left += received * (1 - min(1.0, read / size)) if size else received
    return round(left)


def until(trace: Trace, end_unix_s: float) -> Trace:
    """The trace without what had not ended by then."""
    last = end_unix_s - trace.began_unix_s
    return replace(trace, events=[e for e in trace.events if e.at_s + e.duration_s <= last])


def fetched(trace: Trace) -> set[str]:
    """Objects that were received, as hex digests; published files are not among them."""
    return set(_received(trace))


def covered(spans: Iterable[Span]) -> float:
    """Length of the union of spans; those that end before they begin count nothing."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        if end > max(begin, reached):
            total += end - max(begin, reached)
            reached = end
    return total


def label(trace: Trace, event: TraceEvent) -> str:
    """What an event is about, for people."""
    if event.name == METADATA:
        return METADATA_PATH
    if event.name in trace.paths:
        return trace.paths[event.name]
    if _is_digest(event.name):
        kind = "object" if event.what in {"fetch", "prefetch"} else "content"
        return f"{kind} {event.name[:SHORT_DIGEST]}"
    return event.name


def _received(trace: Trace) -> dict[str, int]:
    received: dict[str, int] = defaultdict(int)
    for event in trace.events:
        if event.what in {"fetch", "prefetch"} and _is_digest(event.name):
            received[event.name] += event.length
    return received


def _read_of(piece: Piece, asked: Mapping[str, list[Span]], opened: Collection[str]) -> float:
    if piece.content in opened:
        return piece.length
    end = piece.offset + piece.length
    spans = asked.get(piece.content, ())
    return covered((max(begin, piece.offset), min(stop, end)) for begin, stop in spans)


def _lane(event: TraceEvent) -> str:
    return "wait" if _waits(event) else event.what


def _waits(event: TraceEvent) -> bool:
    return event.what == "read" and event.waited


def _span(trace: Trace, event: TraceEvent, began_unix_s: float) -> Span:
    begin = trace.began_unix_s + event.at_s - began_unix_s
    return begin, begin + event.duration_s


def _is_digest(name: str) -> bool:
    return len(name) == 64 and all(char in "0123456789abcdef" for char in name)
