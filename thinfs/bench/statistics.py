"""From single starts to figures: medians, spreads, ratios."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from thinfs.bench.values import Report, Series, Start


AGREEMENT: Final = 0.03
"""How far the daemon's count and the line's may be apart before a report says so."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Several measurements of one thing.

    Attributes:
        median: of them.
        least: the smallest.
        most: the largest.
    """

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured of every start.

    Attributes:
        key: in JSON and on command lines.
        title: for people.
        unit: ``s``, ``B`` or empty for counts.
        of: takes it from a start; ``None`` where it is not known.
    """

    key: str
    title: str
    unit: str
    of: Callable[[Start], float | None]


MEASURES: Final = (
    Measure("pull", "pulled", "s", lambda start: start.pulled_s),
    Measure("create", "created", "s", lambda start: start.created_s),
    Measure("exec", "first exec", "s", lambda start: start.started_s),
    Measure("ready", "ready", "s", lambda start: start.ready_s),
    Measure("bytes", "bytes", "B", lambda start: start.traffic.bytes),
    Measure("requests", "requests", "", lambda start: start.traffic.requests),
    Measure(
        "stalled", "stalled", "s", lambda start: start.details.stalled_s if start.details else None
    ),
    Measure(
        "unread",
        "never read",
        "B",
        lambda start: start.details.unread_bytes if start.details else None,
    ),
)
"""All times count from the moment the client was told to pull (warm: to run)."""

READY: Final = next(measure for measure in MEASURES if measure.key == "ready")


def figure(values: Iterable[float | None]) -> Figure | None:
    """Median and spread; ``None`` when one of the values is not known, or there is none."""
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    numbers = [value for value in known if value is not None]
    return Figure(statistics.median(numbers), min(numbers), max(numbers))


def of_starts(measure: Measure, starts: Sequence[Start]) -> Figure | None:
    """One measure over several starts."""
    return figure(measure.of(start) for start in starts)


def median_start(starts: Sequence[Start]) -> Start:
    """The start whose time until ready is the median (the faster of the middle two)."""
    return sorted(starts, key=lambda start: start.ready_s)[(len(starts) - 1) // 2]


def ratio(report: Report, series: Series, temperature: str = "cold") -> float | None:
    """Median time until ready over that of the first contestant behind thinfs' own.

    ``None`` for that contestant itself, where there is none, and where nothing was measured.
    """
    if len(report.series) < 2 or series is report.series[1]:
        return None
    ready = [of_starts(READY, starts_of(each, temperature)) for each in (series, report.series[1])]
    if ready[0] is None or ready[1] is None:
        return None
    return ready[0].median / ready[1].median


def disagreement(start: Start) -> float:
    """The part of a start's bytes on which the daemon and the line do not agree.

    Both are taken when all was quiet. The line also carries the client's own pull: what had
    come when that returned may be its, or the daemon's. 0 where there is no daemon of ours.
    """
    if start.details is None:
        return 0.0
    traffic = start.traffic
    bodies = traffic.settled_bytes - traffic.settled_header_bytes
    pulled = max((each.bytes for each in traffic.samples if each.at_s <= start.pulled_s), default=0)
    rest = bodies - start.details.settled_bytes
    beyond = max(rest - pulled, -rest, 0)
    return beyond / bodies if bodies else 0.0


def starts_of(series: Series, temperature: str) -> tuple[Start, ...]:
    """The ``cold`` or the ``warm`` starts of a contestant."""
    return series.cold if temperature == "cold" else series.warm
