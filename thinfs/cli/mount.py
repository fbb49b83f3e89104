"""``thinfs mount``: an image's root as a plain lazy mount."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from thinfs.cli.text import printable
from thinfs.daemon import background, plain
from thinfs.daemon.plain import MountJob
from thinfs.fs.mountpoint import prepare_mountpoint
from thinfs.oci.recipe import parse_recipe
from thinfs.roots.recipes import find_recipe
from thinfs.store.address import parse_address

if TYPE_CHECKING:
    from thinfs.config import Config

_EXAMPLES = """
\b
Examples:
  thinfs mount redis:4-thin /mnt/redis
  thinfs mount --allow https://images.example.org/thin registry.example.org/redis:4-thin ~/redis
  thinfs mount oci:/srv/images:redis ./redis
  thinfs mount ./thin.json /mnt/redis --foreground
"""


@click.command(epilog=_EXAMPLES)
@click.argument("image")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--foreground", "-f", is_flag=True, help="Serve in this process until Ctrl-C.")
@click.option(
    "--repo",
    type=click.Path(path_type=Path),
    help="Directory of the local repository.  [default: [repository] path]",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="URL",
    help="A repository that may be contacted for this mount, beside [sources] allow; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was mounted as JSON.")
@click.pass_obj
def command(
    config: Config,
    *,
    image: str,
    directory: Path,
    foreground: bool,
    repo: Path | None,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Mount the root of the thin image IMAGE, read-only, at DIRECTORY.

    Files arrive when they are read. No daemon and no containerd is needed, and any user who
    may use fusermount3 can do it. The command returns as soon as the mount serves.

    IMAGE is the name of a thin image in the local repository or in a registry, oci:DIR[:TAG],
    or the path of a thin.json.
    """
    config = _effective(config, repo, allow)
    recipe = find_recipe(image, config)
    mountpoint = prepare_mountpoint(directory)
    job = MountJob(recipe=recipe, mountpoint=str(mountpoint), config=config)
    origin = parse_recipe(recipe.encode()).origin
    if foreground:
        plain.run(job, lambda: _say(origin, mountpoint, pid=None, as_json=as_json))
    else:
        _say(origin, mountpoint, pid=background.start(job), as_json=as_json)


def _effective(config: Config, repo: Path | None, allow: tuple[str, ...]) -> Config:
    for url in allow:
        parse_address(url)
    repository = config.repository
    if repo is not None:
        repository = replace(repository, path=str(repo.absolute()))
    sources = replace(config.sources, allow=[*config.sources.allow, *allow])
    return replace(config, repository=repository, sources=sources)


def _say(origin: str, mountpoint: Path, *, pid: int | None, as_json: bool) -> None:
    if as_json:
        values = {"origin": origin, "mountpoint": str(mountpoint), "pid": pid}
        click.echo(json.dumps(values))
    else:
        click.echo(f"{printable(origin)} is mounted at {mountpoint}")
