"""Options of the verbs that start containers in worlds of their own."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from thinfs.bench.measure import DEFAULT_SCRATCH, DEFAULT_TIMEOUT_S
from thinfs.bench.values import Ready
from thinfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS: Final = (
    click.option("--ready-line", metavar="REGEX", help="Ready when a line of its output matches."),
    click.option(
        "--ready-http", metavar="URL", help="Ready when this answers with a status below 400."
    ),
    click.option("--ready-tcp", metavar="PORT", help="Ready when this port accepts connections."),
)


timeout_option = click.option(
    "--timeout",
    type=float,
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    help="Of a start, in seconds.",
)
scratch_option = click.option(
    "--scratch",
    "scratch_base",
    type=click.Path(path_type=Path),
    default=DEFAULT_SCRATCH,
    show_default=True,
    help="Where containers are started; needs room for what they touch.",
)


def ready_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the command gets one argument for them, ``ready``."""

    @functools.wraps(command)
    def with_ready(
        *arguments: Any,
        ready_line: str | None,
        ready_http: str | None,
        ready_tcp: str | None,
        **others: Any,
    ) -> None:
        command(*arguments, ready=_ready(ready_line, ready_http, ready_tcp), **others)

    for option in reversed(_OPTIONS):
        option(with_ready)
    return with_ready


def _ready(line: str | None, http: str | None, tcp: str | None) -> Ready:
    given = [
        each
        for each in (
            line is not None and Ready("line", line or ""),
            http is not None and Ready("http", http or ""),
            tcp is not None and Ready("tcp", tcp or ""),
        )
        if each
    ]
    if len(given) > 1:
        raise UsageError("--ready-line, --ready-http and --ready-tcp exclude each other")
    return given[0] if given else Ready()
