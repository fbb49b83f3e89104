"""Results as Markdown, for a comment on a pull request."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from thinfs.bench import rows
from thinfs.bench.statistics import median_start
from thinfs.bench.text import duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thinfs.bench.baseline import Change
    from thinfs.bench.values import Report

WAITS = 10


def render(report: Report, changes: Sequence[Change] = ()) -> str:
    """The tables, what changed against a baseline, and what was waited for.

    Args:
        report: the results.
        changes: against a baseline.
    """
    return "\n".join(_lines(report, changes)) + "\n"


def _lines(report: Report, changes: Sequence[Change]) -> Iterator[str]:
    link = report.link.text if report.link else "unshaped"
    command = f" <code>{escaped(shlex.join(report.command))}</code>" if report.command else ""
    starts = len(report.series[0].cold)
    yield f"### Start-up of {escaped(report.image)}{command}"
    yield ""
    yield f"Link {link}, ready: {_ready(report)}, medians of {starts}."
    yield ""
    for table in rows.tables(report):
        yield from _table(table)
        yield ""
    yield from _changes(changes)
    yield from _waits(report)
    for note in report.notes:
        yield f"_{escaped(note)}_"
        yield ""


def _table(table: rows.Rows) -> Iterator[str]:
    yield "| " + " | ".join([table.title, *map(escaped, table.headings)]) + " |"
    yield "|---|" + "--:|" * len(table.headings)
    for name, cells in table.rows:
        yield "| " + " | ".join([escaped(name), *cells]) + " |"


def _changes(changes: Sequence[Change]) -> Iterator[str]:
    for change in changes:
        mark = "**worse**: " if change.regressed else ""
        yield f"- {mark}{escaped(change.text)}"
    if changes:
        yield ""


def _waits(report: Report) -> Iterator[str]:
    details = median_start(report.series[0].cold).details
    if details is None or not details.waits:
        return
    yield "<details><summary>What was waited for longest</summary>"
    yield ""
    yield "| path | waited | read |"
    yield "|---|--:|--:|"
    for wait in details.waits[:WAITS]:
        yield f"| {escaped(wait.path)} | {duration(wait.seconds)} | {size(wait.bytes)} |"
    yield ""
    yield "</details>"
    yield ""


def _ready(report: Report) -> str:
    names = {"exit": "it ended with 0", "line": "output", "http": "HTTP", "tcp": "port"}
    text = f" <code>{escaped(report.ready.text)}</code>" if report.ready.text else ""
    return names[report.ready.kind] + text


def escaped(text: str) -> str:
    """Text from images and users, where Markdown and HTML may not take it for theirs."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "|`*_[]\\" else char for char in line)
