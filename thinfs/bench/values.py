"""What is measured and what comes out, as values.

Times are seconds; of a start, from the moment the client was told to pull. Bytes are TCP
payload that reached the node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

from thinfs.errors import UsageError

RESULT_FORMAT: Final = 1
"""Version of :class:`Report` as JSON."""

MAX_ROUND_TRIP_S: Final = 10.0
_RATE_UNITS: Final = {"kbit": 1_000, "mbit": 1_000_000, "gbit": 1_000_000_000}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(kbit|mbit|gbit)\Z", re.IGNORECASE)
_DELAY: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)\Z", re.IGNORECASE)
_DELAY_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

Setting = str | int | float | bool | tuple[str, ...]
ReadyKind = Literal["exit", "line", "http", "tcp"]


@dataclass(frozen=True, slots=True)
class Link:
    """The line between the node and everything it fetches from.

    Attributes:
        bits_per_s: in each direction, of IP packets.
        round_trip_s: delay that a request and its answer see together: half of it each way.
    """

    bits_per_s: int
    round_trip_s: float

    @property
    def text(self) -> str:
        """As :func:`parse_link` reads it: ``1gbit,1ms``."""
        unit, size = max(
            ((unit, size) for unit, size in _RATE_UNITS.items() if size <= self.bits_per_s),
            key=lambda each: each[1],
            default=("kbit", 1_000),
        )
        return f"{self.bits_per_s / size:g}{unit},{self.round_trip_s * 1e3:g}ms"


def parse_link(text: str) -> Link:
    """Read ``RATE,ROUNDTRIP``, such as ``1gbit,1ms`` or ``100mbit,10ms``.

    Raises:
        UsageError: it is something else.
    """
    rate_text, _, delay_text = text.replace(" ", "").partition(",")
    rate, delay = _RATE.match(rate_text), _DELAY.match(delay_text or "0ms")
    if not rate or not delay:
        raise UsageError(f"--link {text}: give a rate and a round trip, such as 1gbit,1ms")
    bits_per_s = round(float(rate[1]) * _RATE_UNITS[rate[2].lower()])
    round_trip_s = float(delay[1]) * _DELAY_UNITS[delay[2].lower()]
    if bits_per_s < 1_000 or round_trip_s > MAX_ROUND_TRIP_S:
        raise UsageError(f"--link {text}: at least 1kbit, and at most {MAX_ROUND_TRIP_S:g}s")
    return Link(bits_per_s, round_trip_s)


@dataclass(frozen=True, slots=True)
class Ready:
    """When a container counts as ready.

    Attributes:
        kind: ``exit``: its process ends with status 0; ``line``: a line of its output matches;
            ``http``: a URL answers with a status below 400; ``tcp``: a port accepts.
        text: the regular expression, the URL, or the port; empty for ``exit``.
    """

    kind: ReadyKind = "exit"
    text: str = ""

    def __post_init__(self) -> None:
        """Check the text.

        Raises:
            UsageError: it is not what the kind needs.
        """
        problem = ""
        if self.kind == "line":
            try:
                re.compile(self.text)
            except re.error as error:
                problem = f"--ready-line {self.text!r}: {error}"
        elif self.kind == "http" and urlsplit(self.text).scheme not in {"http", "https"}:
            problem = f"--ready-http {self.text}: give a URL, such as http://127.0.0.1:8080/"
        elif self.kind == "tcp" and not (self.text.isdecimal() and 0 < int(self.text) < 65536):
            problem = f"--ready-tcp {self.text}: give a port"
        if problem:
            raise UsageError(problem)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy snapshotter that a contestant needs, run privately for each start.

    Attributes:
        start: the command that serves it; ``{socket}``, ``{root}`` (an empty directory of its
            own) and ``{folder}`` (the start's, for configuration) are replaced in each part.
            Empty: it runs already, and nothing of it can be made cold.
        socket: where it listens when ``start`` is empty.
        files: name → text of files that are made in ``{folder}`` before it starts.
    """

    start: tuple[str, ...] = ()
    socket: str = ""
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Thin:
    """thinfs as a contestant: a daemon and a snapshotter of its own for each start.

    Attributes:
        allow: repositories that the daemon may contact (``[sources] allow``).
        settings: ``(section, field, value)`` of its configuration beside what a private daemon
            needs: paths are never among them.
    """

    allow: tuple[str, ...] = ()
    settings: tuple[tuple[str, str, Setting], ...] = ()


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to get a container running.

    Attributes:
        name: in reports.
        image: what is pulled: a full reference.
        snapshotter: containerd's name of it.
        node: what it needs beside containerd; ``None`` for what is built in.
        pull: the command that pulls; ``{address}``, ``{namespace}``, ``{snapshotter}``,
            ``{image}`` and ``{folder}`` are replaced. Empty: ``ctr images pull``.
        serving: ``host:port`` on this machine's 127.0.0.1 of what it fetches from, so that
            the node's side of the link finds it under the same address.
    """

    name: str
    image: str
    snapshotter: str
    node: Thin | Proxy | None = None
    pull: tuple[str, ...] = ()
    serving: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """The link at one moment.

    Attributes:
        at_s: when.
        bytes: payload that had reached the node since the start.
    """

    at_s: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as it was seen on the link.

    Attributes:
        at_s: when its first packet left the node.
        line: its first line without the protocol: ``GET /objects/…``.
    """

    at_s: float
    line: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """What crossed the link during a start.

    Attributes:
        bytes: payload that had reached the node when the container was ready.
        header_bytes: of those, headers of HTTP answers that could be seen.
        settled_bytes: the same payload when the link had become quiet.
        settled_header_bytes: headers in those.
        requests: HTTP requests until ready; ``None`` when some of the traffic was encrypted.
        connections: TCP connections until ready.
        samples: bytes over time, ascending; a bounded number.
        seen: requests over time, ascending; a bounded number.
    """

    bytes: int
    header_bytes: int
    settled_bytes: int
    settled_header_bytes: int
    requests: int | None
    connections: int
    samples: tuple[Sample, ...] = ()
    seen: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a container.

    Attributes:
        pulled_s: the client's pull had returned.
        created_s: the container's root was mounted and its process made (containerd's event
            ``/tasks/create``).
        started_s: the process was let go (containerd's event ``/tasks/start``): first exec.
        output_s: its first byte of output; ``None`` when there was none until it was ready.
        ready_s: it was ready.
        traffic: what crossed the link.
        details: of a thin start; ``None`` for others.
        began_unix_s: the zero of all these times, seconds since the epoch.
    """

    pulled_s: float
    created_s: float
    started_s: float
    output_s: float | None
    ready_s: float
    traffic: Traffic
    details: Details | None = None
    began_unix_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """What was waited for, by path.

    Attributes:
        path: in the image; a digest when the path is not known.
        seconds: that readers waited, together.
        at_s: of the first wait.
        bytes: that were read while waiting.
    """

    path: str
    seconds: float
    at_s: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a waterfall.

    Attributes:
        lane: ``attach``, ``mount``, ``open``, ``read``, ``wait``, ``fetch`` or ``prefetch``.
        at_s: where it begins; may be negative for what happened before.
        seconds: how long it is.
        text: what it is about.
        bytes: read or received.
    """

    lane: str
    at_s: float
    seconds: float
    text: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Details:
    """What the daemon knows about one thin start.

    Attributes:
        requests: that it sent until ready.
        bytes: that it received until ready, as stored.
        settled_bytes: the same when the link had become quiet.
        stalled_s: time until ready in which at least one reader waited for a fetch; ``None``
            when the daemon gave no trace, and nothing below is known.
        waits: what was waited for, longest first; a bounded number.
        bars: the waterfall, by begin; a bounded number.
        unread_bytes: received until ready and not read by then; ``None`` when it is not known.
        dropped: events that the daemon's trace had no room for.
    """

    requests: int
    bytes: int
    settled_bytes: int
    stalled_s: float | None = None
    waits: tuple[Wait, ...] = ()
    bars: tuple[Bar, ...] = ()
    unread_bytes: int | None = None
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Series:
    """All starts of one contestant.

    Attributes:
        name: the contestant's.
        image: what was started.
        snapshotter: with which.
        cold: with empty caches, in the order they were made.
        warm: in the same worlds again; as many, or none.
    """

    name: str
    image: str
    snapshotter: str
    cold: tuple[Start, ...]
    warm: tuple[Start, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One whole measurement.

    Attributes:
        image: as it was asked for.
        command: that was run; empty: the image's own.
        ready: when it counted as ready.
        link: the line; ``None``: as fast as this machine is.
        series: the contestants, the first one is what is measured.
        machine: what it ran on, for people.
        version: of thinfs.
        made_unix_s: when.
        notes: what a reader must know, one line each.
        format: of the JSON.
    """

    image: str
    command: tuple[str, ...]
    ready: Ready
    link: Link | None
    series: tuple[Series, ...]
    machine: str
    version: str
    made_unix_s: float
    notes: tuple[str, ...] = field(default=())
    format: int = RESULT_FORMAT
