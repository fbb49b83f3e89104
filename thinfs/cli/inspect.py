"""``thinfs inspect``: what is in an image, and what of it is used."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thinfs.cli.repositories import json_option, repo_option, with_repo
from thinfs.cli.status import size
from thinfs.cli.text import printable
from thinfs.repository.inspect import Inspection, LayerShare, inspect
from thinfs.repository.sources import with_sources
from thinfs.repository.stock import Stock, places_of, recipe_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.config import Config
    from thinfs.repository.sources import Remote
    from thinfs.repository.usage import Directory

_EXAMPLES = """
\b
Examples:
  thinfs inspect redis:4-thin
  thinfs inspect --top 30 registry.example.org/lab/jupyter:5-thin
  thinfs inspect --json redis:4-thin | jq '.never_used[] | [.bytes, .path]'
"""


@click.command(epilog=_EXAMPLES)
@click.argument("image")
@repo_option
@click.option(
    "--top", type=click.IntRange(1, 10_000), default=12, show_default=True, help="Directories."
)
@json_option
@click.pass_obj
def command(config: Config, *, image: str, repo: str, top: int, as_json: bool) -> None:
    """Show what is in a thin image: by layer, by directory, and what a start uses of it.

    IMAGE is the name of an image in the local repository or in a registry, oci:DIR[:TAG], or
    a file thin.json. What a start uses is known from the boot profile of the image.
    """
    config = with_repo(config, repo)
    recipe = recipe_of(image, config)

    def work(remotes: Sequence[Remote]) -> Inspection:
        with TemporaryDirectory(prefix="thinfs-") as folder:
            return inspect(recipe, Stock(remotes, Path(folder)), top)

    found = with_sources(places_of([recipe], config), config.sources, work)
    if as_json:
        click.echo(json.dumps(as_values(found), indent=2))
    else:
        _show(found)


def as_values(found: Inspection) -> dict[str, Any]:
    """An inspection as ``--json`` prints it. Sizes are bytes; paths that are no UTF-8 replaced."""
    values: dict[str, Any] = msgspec.to_builtins(found, enc_hook=str, builtin_types=(bytes,))
    for kind in ("largest", "never_used"):
        for each in values[kind]:
            each["path"] = each["path"].decode(errors="replace")
    return values


def _show(found: Inspection) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(_figures(found))
    console.print()
    console.print(_layers(found))
    console.print()
    console.print(_directories("LARGEST DIRECTORIES", found.largest, used=found.use is not None))
    if found.use is not None:
        console.print()
        console.print(_directories("NEVER USED", found.never_used, used=False))


def _figures(found: Inspection) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    counts = found.summary
    rows = [
        ("origin", printable(found.origin)),
        ("files", f"{size(counts.file_bytes)}; {counts.inodes} inodes, {counts.names} names"),
        ("contents", f"{size(counts.content_bytes)} in {counts.contents} distinct ones"),
        ("objects", f"{size(found.stored_bytes)} stored in {counts.objects}"),
        ("metadata", f"{size(found.metadata_bytes)}, catalog {size(found.catalog_bytes)}"),
        ("a start uses", _use(found)),
    ]
    for name, text in rows:
        table.add_row(name, Text(text))
    return table


def _use(found: Inspection) -> str:
    use = found.use
    if use is None:
        return "not known: no boot profile has been recorded"
    part = 100 * use.bytes / max(found.summary.content_bytes, 1)
    ready = f", ready after {use.ready_ms} ms in {use.runs} runs" if use.runs else ""
    return f"{size(use.bytes)} ({part:.1f} %) of {use.contents} contents{ready} ({use.source})"


def _layers(found: Inspection) -> Table:
    names = ("LAYER", "COMPRESSED", "CONTENTS", "REPEATED", "HIDDEN", "USED")
    table = Table(*names, box=None, padding=(0, 2, 0, 0))
    for layer in found.layers:
        table.add_row(layer.digest[:12], *_layer_cells(layer, used=found.use is not None))
    return table


def _layer_cells(layer: LayerShare, *, used: bool) -> tuple[str, ...]:
    if layer.compressed_bytes is None:
        return ("not described in any repository",)
    return (
        size(layer.compressed_bytes),
        f"{size(layer.content_bytes)} in {layer.contents}",
        size(layer.repeated_bytes),
        size(layer.hidden_bytes),
        (size(layer.used_bytes) if layer.used_bytes else "never") if used else "-",
    )


def _directories(title: str, found: Sequence[Directory], *, used: bool) -> Table:
    names = (title, "BYTES", "FILES", "USED") if used else (title, "BYTES", "FILES")
    table = Table(*names, box=None, padding=(0, 2, 0, 0))
    for each in found:
        cells = [size(each.bytes), str(each.files)]
        if used:
            cells.append(f"{100 * each.used_bytes / each.bytes:.0f} %")
        table.add_row(Text(printable(f"/{each.path.decode(errors='replace')}")), *cells)
    return table
