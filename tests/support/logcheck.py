"""The log checker: a warning that no test declared is a failure.

A record factory sees every record of the process, also when a command under test replaces the
handlers of the root logger. Logs of processes that tests start are told to it line by line
(:func:`relay`), so that a warning of the daemon fails the test during which it was written.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TRACEBACK = "Traceback (most recent call last)"
_LINE = re.compile(
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?P<level>[A-Z]+) (?P<name>[\w.]+): (?P<text>.*)$"
)


@dataclass(slots=True)
class LogCheck:
    """Collects what must not go unnoticed, and knows what was declared.

    Attributes:
        patterns: regular expressions; a record that one of them finds is expected.
        seen: level name and message of every record at WARNING or above, or with a traceback.
    """

    patterns: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def expect(self, pattern: str) -> None:
        """Declare that records in which ``pattern`` is found are no failure."""
        self.patterns.append(pattern)

    def note(self, record: logging.LogRecord) -> None:
        """Look at one record."""
        if record.levelno < logging.WARNING and not record.exc_info:
            return
        text = f"{record.levelname} {record.name}: {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            text += f" [{record.exc_info[1]!r}]"
        self.seen.append(text)

    def undeclared(self) -> list[str]:
        """What was seen and no pattern explains, in order."""
        return [
            text
            for text in self.seen
            if not any(re.search(pattern, text) for pattern in self.patterns)
        ]


class Recorder:
    """Hands every log record of this process to the check of the running test."""

    def __init__(self) -> None:
        self.check = LogCheck()

    def install(self) -> Callable[[], None]:
        """Begin; the answer ends it."""
        previous = logging.getLogRecordFactory()

        def factory(*args: object, **kwargs: object) -> logging.LogRecord:
            record = previous(*args, **kwargs)
            self.check.note(record)
            return record

        logging.setLogRecordFactory(factory)
        return lambda: logging.setLogRecordFactory(previous)


def notable(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The warnings, errors and tracebacks in a log written in the format of ``thinfs.logs``.

    Yields:
        Level and text. A traceback counts as an error, with the line that ends it.
    """
    in_traceback = False
    for line in lines:
        match = _LINE.match(line)
        if match:
            level = logging.getLevelNamesMapping().get(match["level"], logging.ERROR)
            if level >= logging.WARNING:
                yield level, f"{match['name']}: {match['text']}"
            in_traceback = False
        elif TRACEBACK in line:
            in_traceback = True
        elif in_traceback and line[:1] not in {" ", "\t", "|", "+", ""}:
            yield logging.ERROR, f"traceback: {line.rstrip()}"
            in_traceback = False
    if in_traceback:
        yield logging.ERROR, "traceback that does not end"


def relay(name: str, text: str) -> None:
    """Tell the log checker what the process ``name`` wrote into its log."""
    log = logging.getLogger(f"tests.process.{name}")
    for level, message in notable(text.splitlines()):
        log.log(level, "%s", message)
