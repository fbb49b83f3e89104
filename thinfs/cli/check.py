"""``thinfs check``: is everything there that images need, and are the bytes right?"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import click

from thinfs.cli.repositories import Stages, bare_repo_option, directory, json_option
from thinfs.cli.status import size
from thinfs.cli.text import printable
from thinfs.errors import IntegrityError, MissingError, UsageError
from thinfs.repository.check import check
from thinfs.repository.mend import Mender
from thinfs.repository.sources import with_sources
from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.config import Config
    from thinfs.repository.problems import Checked, Problem
    from thinfs.repository.sources import Remote

SPEAK_EVERY_S: Final = 5.0

_EXAMPLES = """
\b
Examples:
  thinfs check
  thinfs check --repo /srv/thin --json | jq '.problems[] | select(.mended_from == "")'
  thinfs check --repair --from https://mirror.example.org/thin
"""


@click.command(epilog=_EXAMPLES)
@bare_repo_option
@click.option("--repair", is_flag=True, help="Fetch what is damaged or missing again.")
@click.option(
    "--from",
    "urls",
    multiple=True,
    metavar="URL",
    help="A repository to fetch from, also a directory; repeatable.",
)
@json_option
@click.pass_obj
def command(
    config: Config, *, repo: str, repair: bool, urls: tuple[str, ...], as_json: bool
) -> None:
    """Check a repository: every reference, and every hash.

    What is damaged or missing is listed. With --repair it is fetched from another repository,
    verified, and put in place in one step; readers and converters may go on working. Records
    and the list of names have no hash of their own: name repositories that you trust.

    The exit status is 0 when everything is right, or was mended, and 5 otherwise.
    """
    if repair != bool(urls):
        raise UsageError("--repair needs --from URL, and --from needs --repair")
    path = directory(config, repo)
    if not path.is_dir():
        raise MissingError(f"{path} is not a thinfs repository")
    view = _View(quiet=as_json)

    def work(remotes: Sequence[Remote]) -> Checked:
        mender = Mender(LocalRepository(path), remotes) if repair else None
        with TemporaryDirectory(prefix="thinfs-") as folder:
            return check(path, Path(folder), mender, view)

    found = with_sources(urls, config.sources, work)
    click.echo(json.dumps(as_values(found), indent=2) if as_json else _text(found))
    if found.broken:
        raise click.exceptions.Exit(IntegrityError.exit_code)


class _View(Stages):
    """Says now and then how far the check is."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self._quiet = quiet
        self._files = self._bytes = 0
        self._spoke = time.monotonic()

    def advance(self, files: int, count: int) -> None:
        """So many more files, with so many bytes."""
        self._files += files
        self._bytes += count
        if not self._quiet and time.monotonic() - self._spoke >= SPEAK_EVERY_S:
            self._spoke = time.monotonic()
            print(f"{self._files} files, {size(self._bytes)}", file=sys.stderr, flush=True)


def as_values(found: Checked) -> dict[str, Any]:
    """A check as ``--json`` prints it. Sizes are bytes."""
    return {
        "images": found.images,
        "files": found.files,
        "bytes": found.bytes,
        "broken": found.broken,
        "problems": [
            {
                "path": problem.path,
                "what": problem.what,
                "owner": problem.owner,
                "harm": problem.harm,
                "mended_from": problem.mended_from,
            }
            for problem in found.problems
        ],
    }


def _text(found: Checked) -> str:
    lines = [_line(problem) for problem in found.problems]
    mended = sum(bool(problem.mended_from) for problem in found.problems)
    lines.append(
        f"{found.images} images, {found.files} files, {size(found.bytes)}:"
        f" {found.broken or 'nothing'} wrong{f', {mended} mended' if mended else ''}"
    )
    return "\n".join(lines)


def _line(problem: Problem) -> str:
    word = "mended" if problem.mended_from else problem.harm
    owner = f" (needed by {problem.owner})" if problem.owner else " (nothing names it)"
    return printable(f"{word}: {problem.path}: {problem.what}{owner}")
