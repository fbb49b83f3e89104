"""Contestants beside each other, as SVG: parts of a start, and bytes on the line over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thinfs.bench.statistics import median_start, starts_of
from thinfs.bench.svg import Scale, bar, element, polyline, shortened, text, ticks
from thinfs.bench.text import duration, size
from thinfs.bench.waterfall import phases

if TYPE_CHECKING:
    from thinfs.bench.values import Report, Series

WIDTH: Final = 1180
GUTTER: Final = 190
RIGHT: Final = 90
ROW: Final = 26
LINES_HEIGHT: Final = 220
COLOURS: Final = 6
"""Lines of different colours; more contestants begin again."""


def parts(report: Report) -> str:
    """One bar for each contestant's median start, cold and warm, cut into its parts."""
    rows = [
        (f"{series.name}, {temperature}", median_start(starts))
        for temperature in ("cold", "warm")
        for series in report.series
        if (starts := starts_of(series, temperature))
    ]
    scale = Scale(0, max(start.ready_s for _, start in rows) or 1.0, GUTTER, WIDTH - RIGHT)
    drawn, y = [], 0.0
    for name, start in rows:
        words = shortened(name, GUTTER - 20)
        drawn.append(text(GUTTER - 10, y + 15, words, "label", "end"))
        for phase in phases(start):
            x, end = scale(phase.begin), scale(phase.end)
            told = f"{name}, {phase.title}: {duration(phase.end - phase.begin)}"
            drawn.append(bar((x, y + 3, end - x, ROW - 8), f"phase {phase.key}", told))
        drawn.append(text(scale(start.ready_s) + 6, y + 15, duration(start.ready_s), "strong"))
        y += ROW
    label = "Seconds until ready, by part"
    return element("svg", *drawn, viewBox=f"0 0 {WIDTH} {y:.0f}", role="img", aria_label=label)


def lines(report: Report) -> str:
    """Bytes that had reached the node, over time, a line for each contestant's median start."""
    starts = [(series, median_start(series.cold)) for series in report.series]
    last = max(start.ready_s for _, start in starts) or 1.0
    most = max(start.traffic.bytes for _, start in starts) or 1
    across = Scale(0, last, 70, WIDTH - 150)
    up = Scale(0, most * 1.05, LINES_HEIGHT, 8)
    drawn = [_grid(across, up, last, most)]
    ends: list[float] = []
    for number, (series, start) in enumerate(starts):
        points = [(0.0, 0), *((each.at_s, each.bytes) for each in start.traffic.samples)]
        inside = [(at, count) for at, count in points if at <= start.ready_s]
        inside.append((start.ready_s, start.traffic.bytes))
        path = [(across(at), up(count)) for at, count in inside]
        drawn.append(polyline(path, f"line line{number % COLOURS}"))
        x, y = path[-1]
        drawn.append(element("circle", cx=x, cy=y, r=3.5, class_=f"dot line{number % COLOURS}"))
        y = _free(y, ends)
        drawn.append(text(x + 9, y + 4, _end_label(series, start.traffic.bytes), "strong"))
    label = "Bytes on the line over time"
    box = f"0 0 {WIDTH} {LINES_HEIGHT + 24}"
    return element("svg", *drawn, viewBox=box, role="img", aria_label=label)


def _end_label(series: Series, count: int) -> str:
    return f"{shortened(series.name, 90)}: {size(count)}"


def _free(y: float, taken: list[float]) -> float:
    """A place for a label near ``y``, apart from those before it."""
    while any(abs(y - other) < 14 for other in taken):
        y -= 14
    taken.append(y)
    return y


def _grid(across: Scale, up: Scale, last: float, most: float) -> str:
    drawn = []
    for value in ticks(most, 4):
        y = up(value)
        drawn.append(element("line", x1=70, y1=y, x2=WIDTH - 150, y2=y, class_="grid"))
        drawn.append(text(62, y + 4, size(value), "axis", "end"))
    for value in ticks(last, 10):
        label = "0 s" if value == 0 else duration(value)
        drawn.append(text(across(value), LINES_HEIGHT + 17, label, "axis", "middle"))
    return "".join(drawn)
