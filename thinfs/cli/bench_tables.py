"""The results of ``thinfs bench`` as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from thinfs.bench import rows
from thinfs.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thinfs.bench.values import Report


def tables(report: Report) -> Iterator[Table]:
    """One table for cold starts, and one for warm ones where there were any."""
    for found in rows.tables(report):
        table = Table(found.title, box=None, padding=(0, 2, 0, 0))
        for heading in found.headings:
            table.add_column(heading, justify="right", no_wrap=True)
        for name, cells in found.rows:
            table.add_row(Text(printable(name)), *cells)
        yield table
