"""Results in files: JSON that is read again, as a baseline for instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from thinfs import atomic
from thinfs.bench.statistics import MEASURES, of_starts
from thinfs.bench.values import RESULT_FORMAT, Report
from thinfs.errors import FormatError, MissingError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thinfs.bench.baseline import Change

MAX_RESULT_BYTES = 256 << 20


def text(report: Report, changes: Sequence[Change] = ()) -> str:
    """A report as JSON for a file, with what changed against a baseline."""
    values = msgspec.json.decode(render(report))
    values["changes"] = msgspec.to_builtins(list(changes))
    return msgspec.json.format(msgspec.json.encode(values), indent=1).decode() + "\n"


def write(report: Report, file: Path) -> None:
    """Write a report as JSON.

    Raises:
        StoreError: the file cannot be written.
    """
    write_text(file, text(report))


def render(report: Report) -> bytes:
    """A report as JSON, with the medians of all measures beside the single starts."""
    values: dict[str, Any] = msgspec.to_builtins(report)
    values["medians"] = {
        series.name: {
            temperature: {
                measure.key: figure.median
                for measure in MEASURES
                if (figure := of_starts(measure, starts)) is not None
            }
            for temperature, starts in (("cold", series.cold), ("warm", series.warm))
            if starts
        }
        for series in report.series
    }
    return msgspec.json.encode(values)


def read(file: Path) -> Report:
    """Read what :func:`write` has written.

    Raises:
        MissingError: there is no such file.
        FormatError: it is something else, or of another version.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_RESULT_BYTES)
    except FileNotFoundError as error:
        raise MissingError(f"{file} does not exist") from error
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
    try:
        report = msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{file} is no result of thinfs bench --json: {error}") from error
    if report.format != RESULT_FORMAT:
        raise FormatError(f"{file} has format {report.format}; this thinfs reads {RESULT_FORMAT}")
    return report


def write_text(file: Path, text: str) -> None:
    """Write a result file in one step.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        atomic.write(file, text.encode())
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
