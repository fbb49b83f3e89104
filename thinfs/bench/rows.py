"""The results as rows of text: the same figures for a terminal, Markdown and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thinfs.bench.statistics import MEASURES, of_starts, ratio
from thinfs.bench.text import amount

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thinfs.bench.values import Report, Start

UNKNOWN: Final = "-"
"""What stands for a figure that is not known."""


@dataclass(frozen=True, slots=True)
class Rows:
    """One table.

    Attributes:
        title: ``cold`` or ``warm``.
        headings: of the columns behind the contestant's name.
        rows: contestant's name and its cells.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def tables(report: Report) -> Iterator[Rows]:
    """A table of cold starts, and one of warm ones where there were any."""
    yield _rows(report, "cold", [each.cold for each in report.series])
    if any(each.warm for each in report.series):
        yield _rows(report, "warm", [each.warm for each in report.series])


def _rows(report: Report, title: str, starts: Sequence[Sequence[Start]]) -> Rows:
    rows = []
    for series, measured in zip(report.series, starts, strict=True):
        relative = ratio(report, series, title)
        last = f"{relative:.2f}" if relative is not None else UNKNOWN
        rows.append((series.name, (*_cells(measured), last)))
    beside = f"of {report.series[1].name}" if len(report.series) > 1 else "ratio"
    return Rows(title, (*_headings(), beside), tuple(rows))


def _headings() -> Iterator[str]:
    for measure in MEASURES:
        yield measure.title
        if measure.key == "ready":
            yield "spread"


def _cells(starts: Sequence[Start]) -> Iterator[str]:
    for measure in MEASURES:
        figure = of_starts(measure, starts)
        yield amount(figure.median, measure.unit) if figure else UNKNOWN
        if measure.key == "ready":
            yield f"{figure.least:.2f}-{figure.most:.2f}" if figure else UNKNOWN
