"""The waterfall of one start, as SVG: who waited for what, and what came over the line when."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thinfs.bench.svg import Scale, bar, element, packed, polyline, shortened_path, text, ticks
from thinfs.bench.text import duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thinfs.bench.values import Bar, Link, Start

WIDTH: Final = 1180
GUTTER: Final = 390
FIGURES: Final = 92
"""Of the gutter, what figures beside the labels take."""

RIGHT: Final = 16
ROW: Final = 17
LANE_BAR: Final = 5
MAX_LANE_ROWS: Final = 14
PATHS: Final = 24
"""Rows of what was waited for longest."""

RATE_HEIGHT: Final = 64
RATE_BINS: Final = 160

LANES: Final = {
    "attach": "attaching the root",
    "mount": "mounting",
    "open": "opens that asked the daemon",
    "read": "reads answered at once",
    "prefetch": "fetched ahead",
    "fetch": "fetched on demand",
}
"""Lanes in their order from above, and what they are."""

MOMENTS: Final = frozenset({"open", "read"})
"""Lanes of so many so short bars that only where they are matters: they get one row."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a start.

    Attributes:
        key: also its colour.
        title: for people.
        begin: seconds.
        end: seconds.
    """

    key: str
    title: str
    begin: float
    end: float


def phases(start: Start) -> tuple[Phase, ...]:
    """The parts of a start, in order, without those that take no time."""
    steps = (
        ("pull", "pull", start.pulled_s),
        ("create", "create", start.created_s),
        ("exec", "to first exec", start.started_s),
        ("run", "run until ready", start.ready_s),
    )
    found, begin = [], 0.0
    for key, title, end in steps:
        if end > begin:
            found.append(Phase(key, title, begin, end))
            begin = end
    return tuple(found)


def draw(start: Start, link: Link | None) -> str:
    """The whole waterfall.

    Args:
        start: one start; without details only its phases and its line are drawn.
        link: whose rate is marked.
    """
    details = start.details
    bars = details.bars if details else ()
    first = min([0.0, *(each.at_s for each in bars)])
    scale = Scale(first, max(start.ready_s * 1.01, first + 1e-3), GUTTER, WIDTH - RIGHT)
    drawing = _Drawing(scale)
    drawing.axis()
    drawing.phases(start)
    drawing.rate(start, link)
    drawing.requests(start)
    for lane in LANES:
        drawing.lane(lane, [each for each in bars if each.lane == lane])
    drawing.waits([each for each in bars if each.lane == "wait"])
    drawing.ready(start)
    return drawing.finished()


class _Drawing:
    """Collects what is drawn, from above downwards."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._y = 0.0
        self._parts: list[str] = []
        self._grid: list[float] = []

    def axis(self) -> None:
        for value in ticks(self._scale.last, 10):
            x = self._scale(value)
            self._grid.append(x)
            label = "0 s" if value == 0 else duration(value)
            self._parts.append(text(x, 11, label, "axis", "middle"))
        self._y = 20

    def phases(self, start: Start) -> None:
        self._label("phases")
        for phase in phases(start):
            x, width = self._across(phase.begin, phase.end)
            told = f"{phase.title}: {duration(phase.end - phase.begin)}"
            self._parts.append(bar((x, self._y, width, ROW - 3), f"phase {phase.key}", told))
            if width > len(phase.title) * 7:
                self._parts.append(text(x + 5, self._y + 11, phase.title, "inside"))
        self._y += ROW + 4

    def rate(self, start: Start, link: Link | None) -> None:
        rates = list(_rates(start, self._scale.last))
        if not rates:
            return
        highest = max(*(rate for _, rate in rates), link.bits_per_s / 8 if link else 0.0, 1.0)
        bottom = self._y + RATE_HEIGHT
        height = Scale(0, highest * 1.05, bottom, self._y)
        self._label("bytes on the line", size(start.traffic.bytes))
        edge = [(self._scale(0), bottom)]
        for end, rate in rates:
            edge += [(edge[-1][0], height(rate)), (self._scale(end), height(rate))]
        self._parts.append(polyline([*edge, (edge[-1][0], bottom)], "area"))
        if link:
            y = height(link.bits_per_s / 8)
            self._parts.append(_line(GUTTER, y, WIDTH - RIGHT, y, "limit"))
        told = f"line: {size(link.bits_per_s / 8)}/s" if link else f"most: {size(highest)}/s"
        self._parts.append(text(GUTTER - 10, self._y + 26, told, "figure", "end"))
        self._parts.append(_line(GUTTER, bottom, WIDTH - RIGHT, bottom, "base"))
        self._y = bottom + 8

    def requests(self, start: Start) -> None:
        if not start.traffic.seen:
            return
        self._label("requests on the line", str(start.traffic.requests))
        for request in start.traffic.seen:
            told = f"{duration(request.at_s)}: {request.line}"
            x = self._scale(request.at_s)
            self._parts.append(bar((x, self._y + 1, 1.2, ROW - 6), "lane request", told))
        self._y += ROW + 2

    def lane(self, lane: str, bars: Sequence[Bar]) -> None:
        """Bars of one kind, packed into rows."""
        if not bars:
            return
        total = sum(each.bytes for each in bars)
        told = f"{len(bars)}" + (f", {size(total)}" if total else "")
        self._label(LANES[lane], told)
        placed = [self._across(each.at_s, each.at_s + each.seconds) for each in bars]
        spans = [(x, x + width) for x, width in placed]
        rows = [0] * len(bars) if lane in MOMENTS else packed(spans, 1.0)
        for each, (x, width), row in zip(bars, placed, rows, strict=True):
            y = self._y + 2 + min(row, MAX_LANE_ROWS - 1) * (LANE_BAR + 1)
            self._parts.append(bar((x, y, width, LANE_BAR), f"lane {lane}", _told(each)))
        height = min(max(rows) + 1, MAX_LANE_ROWS) * (LANE_BAR + 1)
        self._y += max(height + 6, ROW + 2)

    def waits(self, bars: Sequence[Bar]) -> None:
        """One row for each of the paths that were waited for longest, by first wait."""
        by_path: dict[str, list[Bar]] = defaultdict(list)
        for each in bars:
            by_path[each.text].append(each)
        longest = sorted(by_path, key=lambda path: -_seconds(by_path[path]))
        shown = sorted(longest[:PATHS], key=lambda path: by_path[path][0].at_s)
        if shown:
            self._y += 6
            self._parts.append(
                text(GUTTER - FIGURES, self._y + 11, "readers waited for", "head", "end")
            )
            self._y += ROW
        for path in shown:
            self._wait_row(path, by_path[path])
        self._other_waits([each for path in longest[PATHS:] for each in by_path[path]])

    def ready(self, start: Start) -> None:
        """Mark first exec and ready, through everything."""
        for at, class_ in ((start.started_s, "mark started"), (start.ready_s, "mark")):
            x = self._scale(at)
            self._parts.append(_line(x, 16, x, self._y, class_))

    def finished(self) -> str:
        height = self._y + 4
        grid = "".join(_line(x, 16, x, height - 4, "grid") for x in self._grid)
        box = f"0 0 {WIDTH} {height:.0f}"
        label = "What happened until the container was ready, over time"
        return element(
            "svg", grid, *self._parts, viewBox=box, role="img", aria_label=label, class_="waterfall"
        )

    def _wait_row(self, path: str, bars: Sequence[Bar]) -> None:
        seconds = duration(_seconds(bars))
        room = GUTTER - FIGURES
        self._parts.append(
            element(
                "g",
                element("title", _escaped(path)),
                text(GUTTER - FIGURES, self._y + 11, shortened_path(path, room), "path", "end"),
                text(GUTTER - 10, self._y + 11, seconds, "figure", "end"),
            )
        )
        for each in bars:
            x, width = self._across(each.at_s, each.at_s + each.seconds)
            self._parts.append(bar((x, self._y + 2, width, ROW - 6), "lane wait", _told(each)))
        self._y += ROW

    def _other_waits(self, bars: Sequence[Bar]) -> None:
        if not bars:
            return
        paths = len({each.text for each in bars})
        self._label(f"{paths} other paths", duration(_seconds(bars)))
        for each in sorted(bars, key=lambda each: each.at_s):
            x, width = self._across(each.at_s, each.at_s + each.seconds)
            self._parts.append(bar((x, self._y + 2, width, ROW - 6), "lane wait", _told(each)))
        self._y += ROW

    def _label(self, title: str, told: str = "") -> None:
        y = self._y + 11
        self._parts.append(text(GUTTER - FIGURES, y, title, "label", "end"))
        self._parts.append(text(GUTTER - 10, y, told, "figure", "end"))

    def _across(self, begin: float, end: float) -> tuple[float, float]:
        x = self._scale(begin)
        return x, max(self._scale(end) - x, 1.0)


def _rates(start: Start, last: float) -> Iterator[tuple[float, float]]:
    """(end in seconds, bytes a second) of even stretches of time, from what was counted."""
    if not start.traffic.samples:
        return
    step = last / RATE_BINS
    counted = [(0.0, 0), *((each.at_s, each.bytes) for each in start.traffic.samples)]
    at, before = 0, 0.0
    for index in range(1, RATE_BINS + 1):
        end = index * step
        while at + 1 < len(counted) and counted[at + 1][0] <= end:
            at += 1
        now = float(counted[at][1])
        yield end, (now - before) / step
        before = now


def _told(each: Bar) -> str:
    told = f"{each.text}: {duration(each.seconds)} from {duration(each.at_s)}"
    return f"{told}, {size(each.bytes)}" if each.bytes else told


def _seconds(bars: Sequence[Bar]) -> float:
    return sum(each.seconds for each in bars)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _escaped(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
