"""``thinfs save``: images with all that they need in one file."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING

import click

from thinfs import atomic
from thinfs.cli.repositories import Transfer, directory, json_option, repo_option, with_repo
from thinfs.cli.status import size
from thinfs.cli.text import printable
from thinfs.errors import StoreError, UsageError
from thinfs.repository.images import find_image, stored_image
from thinfs.repository.save import save
from thinfs.repository.sources import with_sources
from thinfs.repository.stock import Stock, places_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thinfs.config import Config
    from thinfs.repository.bundle import Bundle
    from thinfs.repository.sources import Remote

STDOUT = "-"

_EXAMPLES = """
\b
Examples:
  thinfs save redis:4-thin -o redis.tar
  thinfs save --profile redis:4-thin python:3.11-thin -o starts.tar
  thinfs save redis:4-thin -o - | ssh node17 thinfs load -
"""


@click.command(epilog=_EXAMPLES)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@repo_option
@click.option(
    "--all/--profile",
    "everything",
    default=True,
    help="All of the images, or what their boot profiles need.  [default: all]",
)
@click.option("-o", "--output", required=True, metavar="FILE|-", help="Where to; - is stdout.")
@json_option
@click.pass_obj
def command(
    config: Config,
    *,
    images: tuple[str, ...],
    repo: str,
    everything: bool,
    output: str,
    as_json: bool,
) -> None:
    """Write images of the repository into one file that needs no network to be used.

    The file holds the thin images, their metadata, and their objects, each once, verified on
    the way. It is an OCI archive too, for tools that want the thin images alone. The same
    images give the same bytes. thinfs load puts it into a repository elsewhere.
    """
    if output == STDOUT and sys.stdout.isatty():
        raise UsageError("a bundle is not for a terminal: redirect it, or name a file")
    if output == STDOUT and as_json:
        raise UsageError("stdout cannot be both: --json needs -o FILE")
    config = with_repo(config, repo)
    path = directory(config, repo)
    found = list(dict.fromkeys(find_image(path, image) for image in images))
    stored = [stored_image(path, each.name, each.root) for each in found]
    places = places_of([recipe for each in stored for recipe in each.recipes], config)

    def work(remotes: Sequence[Remote]) -> Bundle:
        with (
            TemporaryDirectory(prefix="thinfs-") as folder,
            _opened(output) as stream,
            Transfer(quiet=as_json) as progress,
        ):
            stock = Stock(remotes, Path(folder))
            return save(stored, stock, "all" if everything else "profile", stream, progress)

    bundle = with_sources(places, config.sources, work)
    if as_json:
        values = {
            "images": [{"name": each.name, "digest": each.digest} for each in bundle.images],
            "files": bundle.files,
            "bytes": bundle.bytes,
        }
        click.echo(json.dumps(values, indent=2))
    else:
        names = ", ".join(printable(each.name) for each in bundle.images)
        click.echo(f"{names}: {bundle.files} files, {size(bundle.bytes)}", err=True)


@contextmanager
def _opened(output: str) -> Iterator[IO[bytes]]:
    """The file, which appears when it is complete, or stdout."""
    if output == STDOUT:
        yield sys.stdout.buffer
        return
    try:
        with atomic.replacing(Path(output).absolute()) as file:
            yield file
    except OSError as error:
        raise StoreError(f"{output}: {error.strerror}") from error
