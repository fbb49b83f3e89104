"""``thinfs load``: images from a file that ``thinfs save`` has written."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from thinfs.cli.repositories import Transfer, directory, json_option, repo_option
from thinfs.cli.status import size
from thinfs.cli.text import printable
from thinfs.errors import MissingError, StoreError
from thinfs.oci.delivery import containerd_is_there, import_into_containerd
from thinfs.repository.load import load
from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thinfs.config import Config

STDIN = "-"
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")

_EXAMPLES = """
\b
Examples:
  thinfs load redis.tar
  ssh builder thinfs save redis:4-thin -o - | thinfs load -
  thinfs load --repo /srv/thin --no-containerd starts.tar
"""


@click.command(epilog=_EXAMPLES)
@click.argument("file", metavar="FILE|-")
@repo_option
@click.option(
    "--containerd/--no-containerd",
    default=None,
    help="Import the thin images into the local containerd.  [default: when there is one]",
)
@click.option(
    "--containerd-address",
    type=click.Path(path_type=Path),
    default=CONTAINERD_SOCKET,
    show_default=True,
    help="containerd's socket.",
)
@click.option("--namespace", default="default", show_default=True, help="containerd's namespace.")
@json_option
@click.pass_obj
def command(
    config: Config,
    *,
    file: str,
    repo: str,
    containerd: bool | None,
    containerd_address: Path,
    namespace: str,
    as_json: bool,
) -> None:
    """Put the images of FILE into the repository of this machine.

    Everything is verified; what is there already is passed over, so a load that was
    interrupted goes on where it was. The node's daemon reads its own repository directory, so
    containers start from it without any network. As with any image archive, names are
    believed: the digests that are printed say what they stand for.
    """
    with _opened(file) as stream, Transfer(quiet=as_json) as progress:
        repository = LocalRepository.open_or_create(directory(config, repo))
        done = load(repository, stream, int(time.time()), progress)
    if containerd or (containerd is None and containerd_is_there(containerd_address)):
        for image in done.images:
            import_into_containerd(
                image, image.name, namespace=namespace, address=containerd_address
            )
    if as_json:
        values = {
            "images": [{"name": each.name, "digest": each.root.digest} for each in done.images],
            "new_files": done.new_files,
            "new_bytes": done.new_bytes,
            "present_files": done.present_files,
        }
        click.echo(json.dumps(values, indent=2))
        return
    for image in done.images:
        click.echo(f"{printable(image.name)} {image.root.digest}")
    click.echo(
        f"{done.new_files} files new, {size(done.new_bytes)}; {done.present_files} were here",
        err=True,
    )


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == STDIN:
        yield sys.stdin.buffer
        return
    if not Path(file).exists():
        raise MissingError(f"{file} does not exist")
    try:
        with Path(file).open("rb") as opened:
            yield opened
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
