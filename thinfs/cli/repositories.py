"""What the verbs that look after a repository have in common."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from thinfs.cli.status import size as shown
from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from thinfs.config import Config

LINE_EVERY_S: Final = 5.0
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw]?)")

_REPO_HELP: Final = "Directory of the repository.  [default: [repository] path]"

repo_option = click.option("--repo", default="", metavar="DIR", help=_REPO_HELP)
bare_repo_option = click.option(
    "--repo", is_flag=False, flag_value="", default="", metavar="[DIR]", help=_REPO_HELP
)
"""The same for verbs without an argument that could be taken for the directory."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


class Duration(click.ParamType[float]):
    """A number with s, m, h, d or w behind it; bare numbers are seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds."""
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no duration such as 90s, 12h or 7d", param, ctx)
        return float(found[1]) * _UNITS[found[2] or "s"]


def directory(config: Config, repo: str) -> Path:
    """The directory that ``--repo`` names, or the configuration."""
    return Path(repo or config.repository.path).absolute()


def with_repo(config: Config, repo: str) -> Config:
    """The configuration with the directory that ``--repo`` names."""
    repository = msgspec.structs.replace(config.repository, path=str(directory(config, repo)))
    return msgspec.structs.replace(config, repository=repository)


def opened(config: Config, repo: str) -> LocalRepository:
    """The repository that ``--repo`` names, or the configuration.

    Raises:
        MissingError: there is none.
    """
    return LocalRepository.open(directory(config, repo))


class Stages:
    """Says on stderr which part of the work begins; nothing when ``quiet``."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def stage(self, what: str) -> None:
        """Another part begins."""
        if not self._quiet:
            print(what, file=sys.stderr, flush=True)


class Transfer:
    """Shows how many bytes have come: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._total = self._moved = 0
        self._spoke = time.monotonic()

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def total(self, files: int, size: int) -> None:
        """So many files, with about so many bytes, are to come."""
        self._total = size
        if self._quiet:
            return
        if not sys.stderr.isatty():
            print(f"{files} files, {shown(size)}", file=sys.stderr, flush=True)
            return
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._bar.start()
        self._task = self._bar.add_task("", total=size)

    def advance(self, files: int, size: int) -> None:  # noqa: ARG002 - bytes say how far it is
        """So many more have come."""
        self._moved += size
        if self._bar is not None:
            self._bar.advance(self._task, size)
        elif not self._quiet and time.monotonic() - self._spoke >= LINE_EVERY_S:
            self._spoke = time.monotonic()
            text = f"{shown(self._moved)} of {shown(self._total)}"
            print(text, file=sys.stderr, flush=True)
