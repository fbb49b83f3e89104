"""Results as one HTML page that needs nothing else: no script, no font, no address."""

from __future__ import annotations

import datetime as dt
import shlex
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Final

from thinfs.bench import charts, rows, waterfall
from thinfs.bench.statistics import MEASURES, median_start, of_starts, ratio
from thinfs.bench.text import amount, duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thinfs.bench.baseline import Change
    from thinfs.bench.statistics import Measure
    from thinfs.bench.values import Report, Start

WAITS: Final = 20
_READY: Final = {
    "exit": "when it has ended with status 0",
    "line": "when a line of its output matches",
    "http": "when an address answers",
    "tcp": "when a port accepts connections",
}
_PHASES: Final = {
    "pull": "pull",
    "create": "create (root mounted, process made)",
    "exec": "to first exec",
    "run": "run until ready",
}
_LANES: Final = {
    "wait": "a reader waited",
    "fetch": "fetched on demand",
    "prefetch": "fetched ahead",
    "read": "answered at once",
}


def render(report: Report, changes: Sequence[Change] = ()) -> str:
    """The page.

    Args:
        report: the results; of the first contestant the median cold start is shown in full.
        changes: against a baseline.
    """
    css = resources.files("thinfs.bench").joinpath("page.css").read_text()
    title = f"Start-up of {report.image}"
    body = "\n".join(_body(report, changes))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _body(report: Report, changes: Sequence[Change]) -> Iterator[str]:
    start = median_start(report.series[0].cold)
    yield from _head(report)
    yield from _cards(report)
    yield from _changes(changes)
    yield "<h2>Until ready</h2>"
    yield _legend(_PHASES)
    yield charts.parts(report)
    for table in rows.tables(report):
        yield _table(table)
    yield from _explained(report, start)
    yield "<h2>Bytes on the line over time</h2>"
    yield charts.lines(report)
    yield from _single_starts(report)
    yield from _foot(report)


def _head(report: Report) -> Iterator[str]:
    yield f"<h1>{escape(report.image)}</h1>"
    command = shlex.join(report.command)
    running = f"Running <code>{escape(command)}</code>, ready " if command else "Ready "
    text = f" <code>{escape(report.ready.text)}</code>" if report.ready.text else ""
    link = f"a line of {report.link.text}" if report.link else "an unshaped line"
    starts = len(report.series[0].cold)
    yield (
        f'<p class="soft">{running}{_READY[report.ready.kind]}{text}. From an empty node behind '
        f"{link} (rate, round trip), medians of {starts}.</p>"
    )


def _cards(report: Report) -> Iterator[str]:
    series = report.series[0]
    yield '<div class="cards">'
    for measure in MEASURES:
        figure = of_starts(measure, series.cold)
        if measure.key in {"ready", "bytes", "requests", "stalled", "unread"} and figure:
            yield _card(amount(figure.median, measure.unit), _caption(measure.key, report))
    yield "</div>"


def _caption(key: str, report: Report) -> str:
    if key == "ready":
        relative = ratio(report, report.series[0])
        beside = f", {relative:.2f} of {report.series[1].name}" if relative is not None else ""
        return f"until ready{beside}"
    return {
        "bytes": "over the line until ready",
        "requests": "requests until ready",
        "stalled": "in which a reader waited",
        "unread": "fetched and not read by then",
    }[key]


def _card(figure: str, caption: str) -> str:
    return f'<div class="card"><b>{escape(figure)}</b><span>{escape(caption)}</span></div>'


def _changes(changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        return
    yield "<h2>Against the baseline</h2><ul>"
    for change in changes:
        kind = ' class="worse"' if change.regressed else ""
        yield f"<li{kind}>{escape(change.text)}</li>"
    yield "</ul>"


def _legend(titles: dict[str, str]) -> str:
    items = "".join(
        f'<li><i class="{key}"></i>{escape(title)}</li>' for key, title in titles.items()
    )
    return f'<ul class="legend">{items}</ul>'


def _table(table: rows.Rows) -> str:
    heads = "".join(f"<th>{escape(each)}</th>" for each in (table.title, *table.headings))
    lines = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{escape(each)}</td>' for each in cells)}</tr>"
        for name, cells in table.rows
    )
    body = f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody>"
    return f'<div class="scroll"><table>{body}</table></div>'


def _explained(report: Report, start: Start) -> Iterator[str]:
    name = escape(report.series[0].name)
    yield f'<h2 class="page">How {name} got ready: the median cold start</h2>'
    yield (
        '<p class="soft">Seconds from the moment the client was told to pull. The yellow line is '
        "the first exec, the green one ready. Point at a bar to read what it is.</p>"
    )
    if start.details and start.details.bars:
        yield _legend(_LANES)
    yield waterfall.draw(start, report.link)
    if start.details and start.details.dropped:
        yield f'<p class="soft">{start.details.dropped} later events were not recorded.</p>'
    yield from _agreement(start)
    yield from _waits(start)


def _agreement(start: Start) -> Iterator[str]:
    """What both sides counted, so that a reader sees whether they agree."""
    if start.details is None:
        return
    traffic, counted = start.traffic, start.details.settled_bytes
    rest = traffic.settled_bytes - traffic.settled_header_bytes - counted
    yield (
        f'<p class="soft">When all was quiet, {size(traffic.settled_bytes)} had come over the '
        f"line: {size(counted)} by the daemon's own count, "
        f"{size(traffic.settled_header_bytes)} of HTTP headers, and {size(rest)} of other things, "
        "the client's pull among them.</p>"
    )


def _waits(start: Start) -> Iterator[str]:
    if start.details is None or not start.details.waits:
        return
    waits = start.details.waits[:WAITS]
    longest = max(wait.seconds for wait in waits) or 1.0
    yield "<h2>What was waited for longest</h2>"
    yield '<div class="scroll"><table><thead><tr><th>path</th><th>waited</th><th></th>'
    yield "<th>from</th><th>read</th></tr></thead><tbody>"
    for wait in waits:
        share = f'<i style="width:{wait.seconds / longest * 100:.1f}%"></i>'
        yield (
            f'<tr><td class="path">{escape(wait.path)}</td><td>{duration(wait.seconds)}</td>'
            f'<td class="share">{share}</td><td>{duration(wait.at_s)}</td>'
            f"<td>{size(wait.bytes)}</td></tr>"
        )
    yield "</tbody></table></div>"


def _single_starts(report: Report) -> Iterator[str]:
    yield "<h2>Every start</h2>"
    yield '<div class="scroll"><table><thead><tr><th>contestant</th><th></th>'
    yield "".join(f"<th>{escape(measure.title)}</th>" for measure in MEASURES)
    yield "</tr></thead><tbody>"
    for series in report.series:
        for temperature, starts in (("cold", series.cold), ("warm", series.warm)):
            for start in starts:
                cells = "".join(f"<td>{escape(_cell(each, start))}</td>" for each in MEASURES)
                yield f"<tr><td>{escape(series.name)}</td><td>{temperature}</td>{cells}</tr>"
    yield "</tbody></table></div>"


def _cell(measure: Measure, start: Start) -> str:
    figure = of_starts(measure, [start])
    return amount(figure.median, measure.unit) if figure else rows.UNKNOWN


def _foot(report: Report) -> Iterator[str]:
    made = dt.datetime.fromtimestamp(report.made_unix_s, tz=dt.UTC)
    yield "<footer>"
    for note in report.notes:
        yield f"<p>{escape(note)}</p>"
    yield (
        f"<p>thinfs {escape(report.version)} on {escape(report.machine)}, "
        f"{made:%Y-%m-%d %H:%M} UTC. Bytes are TCP payload that reached the node.</p>"
    )
    yield "</footer>"
