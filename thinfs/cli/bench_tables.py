"""The results of ``thinfs bench`` as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from thinfs.bench.statistics import MEASURES, of_starts, ratio
from thinfs.bench.text import amount
from thinfs.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thinfs.bench.values import Report, Start


def tables(report: Report) -> Iterator[Table]:
    """One table for cold starts, and one for warm ones where there were any."""
    yield _table(report, "cold", [each.cold for each in report.series])
    if any(each.warm for each in report.series):
        yield _table(report, "warm", [each.warm for each in report.series])


def _table(report: Report, title: str, starts: Sequence[Sequence[Start]]) -> Table:
    table = Table(title, box=None, padding=(0, 2, 0, 0))
    for heading in _headings():
        table.add_column(heading, justify="right", no_wrap=True)
    for series, measured in zip(report.series, starts, strict=True):
        relative = ratio(report, series) if title == "cold" else None
        cells = [*_cells(measured), f"{relative:.2f}" if relative is not None else ""]
        table.add_row(Text(printable(series.name)), *cells)
    return table


def _headings() -> Iterator[str]:
    for measure in MEASURES:
        yield measure.title
        if measure.key == "ready":
            yield "spread"
    yield "ratio"


def _cells(starts: Sequence[Start]) -> Iterator[str]:
    for measure in MEASURES:
        figure = of_starts(measure, starts)
        yield amount(figure.median, measure.unit) if figure else "-"
        if measure.key == "ready":
            yield f"{figure.least:.2f}-{figure.most:.2f}" if figure else "-"
