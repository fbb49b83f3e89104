"""``thinfs serve``: a repository over HTTP."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import trio

from thinfs.errors import MissingError
from thinfs.serve import server
from thinfs.store.layout import REPOSITORY_FILE

if TYPE_CHECKING:
    from thinfs.config import Config


class Serving(msgspec.Struct, frozen=True):
    """What ``--json`` prints, once, when requests are answered.

    Attributes:
        url: the repository's address, for ``convert --url``.
        allow: what nodes need in ``[sources] allow``.
        repository: the directory.
    """

    url: str
    allow: list[str]
    repository: str


@click.command()
@click.option(
    "--repo",
    type=click.Path(path_type=Path),
    help="The repository's directory; without it [repository] path of the configuration.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8000",
    show_default=True,
    help="Where to listen; port 0 takes a free one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the address as JSON.")
@click.option("--access-log", is_flag=True, help="Log each request.")
@click.pass_obj
def command(
    config: Config, *, repo: Path | None, listen: str, as_json: bool, access_log: bool
) -> None:
    """Serve a repository over HTTP until Ctrl-C or SIGTERM.

    For a laptop or a small team: anyone who reaches the address can read the repository. A web
    server such as nginx serves the same directory to more; docs/serving.md shows how.
    """
    if access_log:
        logging.getLogger("thinfs.serve").setLevel(logging.INFO)
    repository = (repo or Path(config.repository.path)).resolve()
    if not (repository / REPOSITORY_FILE).is_file():
        raise MissingError(
            f"{repository} is not a thinfs repository; name one with --repo, or make one with "
            "`thinfs convert`"
        )
    listening = server.listen(server.parse_listen(listen))
    url = server.url_of(listening)
    serving = Serving(url=url, allow=[url], repository=str(repository))
    show = _show_json if as_json else _show
    serve = partial(server.serve, access_log=access_log, started=partial(show, serving))
    trio.run(serve, repository, listening)


def _show_json(serving: Serving) -> None:
    print(msgspec.json.encode(serving).decode(), flush=True)


def _show(serving: Serving) -> None:
    print(f"{serving.repository} is served at {serving.url}")
    print(f"  convert images for it:    thinfs convert --url {serving.url} IMAGE")
    print("  let nodes read from it, in /etc/thinfs/config.toml:")
    print("    [sources]")
    print(f'    allow = ["{serving.url}"]', flush=True)
