"""``thinfs compare``: what two images share."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from catalog.compare import compare
from thinfs.cli.repositories import json_option, repo_option, with_repo
from thinfs.cli.status import size
from thinfs.repository.pieces import compare_layers
from thinfs.repository.sources import with_sources
from thinfs.repository.stock import Stock, places_of, recipe_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.compare import Comparison, Part, Shares
    from thinfs.config import Config
    from thinfs.repository.sources import Remote

_EXAMPLES = """
\b
Examples:
  thinfs compare redis:6-thin redis:7-thin
  thinfs compare --layers redis:6-thin redis:7-thin
  thinfs compare --originals oci:/tmp/six:6 oci:/tmp/seven:7 redis:6-thin redis:7-thin
  thinfs compare --json a/thin.json b/thin.json | jq .contents.shared.bytes
"""
_KINDS = {
    "contents": "files",
    "objects": "objects",
    "blocks": "256 KiB blocks",
    "layers": "layers",
}


@click.command(epilog=_EXAMPLES)
@click.argument("a")
@click.argument("b")
@repo_option
@click.option(
    "--layers",
    is_flag=True,
    help="Compare the original images too, by blocks and by layers: reads all their layers.",
)
@click.option(
    "--originals",
    nargs=2,
    metavar="IMAGE IMAGE",
    help="The original images, where the recipes' names for them do not lead there.",
)
@json_option
@click.pass_obj
def command(
    config: Config,
    *,
    a: str,
    b: str,
    repo: str,
    layers: bool,
    originals: tuple[str, str] | None,
    as_json: bool,
) -> None:
    """Compare two thin images: what do they share, and what has each for itself?

    A and B are names of images in the local repository or in a registry, oci:DIR[:TAG], or
    files thin.json. Files are compared by content, in uncompressed bytes; objects, blocks and
    layers in bytes as they are stored. Each distinct thing counts once.
    """
    config = with_repo(config, repo)
    recipes = [recipe_of(name, config) for name in (a, b)]

    def work(remotes: Sequence[Remote]) -> Comparison:
        with TemporaryDirectory(prefix="thinfs-") as folder:
            stock = Stock(remotes, Path(folder))
            one, other = (each.thinfs.root.catalog for each in recipes if each.thinfs)
            with stock.catalog(one) as first:
                if one.digest == other.digest:
                    return compare(first, first)
                with stock.catalog(other) as second:
                    return compare(first, second)

    found = with_sources(places_of(recipes, config), config.sources, work)
    shares = {"contents": found.contents, "objects": found.objects}
    if layers or originals:
        names = originals or (recipes[0].origin, recipes[1].origin)
        ordinary = compare_layers(*names, config.registry)
        shares |= {"blocks": ordinary.blocks, "layers": ordinary.layers}
    if as_json:
        click.echo(json.dumps({kind: as_values(each) for kind, each in shares.items()}, indent=2))
    else:
        Console(highlight=False, soft_wrap=True).print(_table(shares))


def as_values(shares: Shares) -> dict[str, Any]:
    """One comparison as ``--json`` prints it. Sizes are bytes."""
    values: dict[str, Any] = msgspec.to_builtins(shares)
    return values


def _table(shares: dict[str, Shares]) -> Table:
    table = Table("BY", "SHARED", "ONLY A", "ONLY B", "OF B IN A", box=None, padding=(0, 2, 0, 0))
    for kind, each in shares.items():
        whole = each.shared.bytes + each.only_b.bytes
        part = f"{100 * each.shared.bytes / whole:.1f} %" if whole else "-"
        cells = (_shown(part) for part in (each.shared, each.only_a, each.only_b))
        table.add_row(_KINDS[kind], *cells, part)
    return table


def _shown(part: Part) -> str:
    return f"{size(part.bytes)} in {part.count}"
