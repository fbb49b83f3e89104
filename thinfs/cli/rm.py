"""``thinfs rm``: an image loses its name in a repository."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from thinfs.cli.repositories import directory, repo_option
from thinfs.cli.text import printable
from thinfs.oci.kept import remove_images
from thinfs.repository.images import find_image
from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from thinfs.config import Config

_EXAMPLES = """
\b
Examples:
  thinfs rm redis:4-thin
  thinfs rm --repo=/srv/thin redis:4-thin python:3.11-thin
"""


@click.command(epilog=_EXAMPLES)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@repo_option
@click.pass_obj
def command(config: Config, *, images: tuple[str, ...], repo: str) -> None:
    """Take the names of images away from a repository.

    Nodes that run such an image go on: its files stay until thinfs gc finds that the grace
    time has passed. All names are taken away, or none.
    """
    path = LocalRepository.open(directory(config, repo)).path
    names = list(dict.fromkeys(find_image(path, image).name for image in images))
    remove_images(path, names, int(time.time()))
    for name in names:
        click.echo(f"removed: {printable(name)}")
