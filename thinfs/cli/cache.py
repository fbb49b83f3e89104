"""``thinfs cache``: what this node keeps, what of it stays, and whether it is as it should be."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thinfs.cache import images
from thinfs.cache.usage import usage
from thinfs.cache.verify import remove, verify
from thinfs.cli.caches import cache_option, full_name, opened_cache, with_cache
from thinfs.cli.repositories import Transfer, json_option
from thinfs.cli.status import size
from thinfs.cli.text import printable
from thinfs.control.client import ControlClient
from thinfs.errors import FormatError, IntegrityError, ThinfsError
from thinfs.oci.recipe import parse_recipe
from thinfs.store.layout import raw_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thinfs.cache.directory import NodeCache
    from thinfs.cache.images import KnownImage
    from thinfs.cache.usage import Usage
    from thinfs.cache.verify import Verified
    from thinfs.config import Config

STATUS_WITHIN_S = 5.0
ROOT_DIGITS = 16
"""Hex digits by which ``thinfs status`` names a root."""

REPAIR_JOBS = 8

_EXAMPLES = """
\b
Examples:
  thinfs cache ls
  thinfs cache pin redis:4-thin
  thinfs cache du --by-image --json
  thinfs cache verify --repair
"""


@click.group(epilog=_EXAMPLES)
def command() -> None:
    """Look after what this node keeps of images.

    These work beside a running daemon, and without one.
    """


@command.command("ls")
@cache_option
@json_option
@click.pass_obj
def list_images(config: Config, *, folder: str, as_json: bool) -> None:
    """List images that were warmed: what is pinned, and how much of each is here."""
    with opened_cache(with_cache(config, folder)) as cache:
        known = images.known_images(cache)
    if as_json:
        click.echo(json.dumps([_image_values(each) for each in known], indent=2))
        return
    table = Table("IMAGE", "PART", "PINNED", "FILES", "BYTES", box=None, padding=(0, 2, 0, 0))
    for each in known:
        here = f"{each.here}" if each.complete else f"{each.here} of {each.files}"
        part = each.wanted.part.replace("\n", " ")
        name = Text(printable(each.wanted.name))
        pinned = "yes" if each.pinned else "no"
        table.add_row(name, Text(printable(part)), pinned, here, size(each.bytes_here))
    _print(table)


@command.command("pin")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@cache_option
@click.pass_obj
def pin(config: Config, *, names: tuple[str, ...], folder: str) -> None:
    """Have what was warmed of each IMAGE stay, over restarts and reboots."""
    with opened_cache(with_cache(config, folder)) as cache:
        for name in names:
            images.pin(cache, full_name(name))


@command.command("unpin")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@cache_option
@click.pass_obj
def unpin(config: Config, *, names: tuple[str, ...], folder: str) -> None:
    """Let each IMAGE go when room is needed."""
    with opened_cache(with_cache(config, folder)) as cache:
        for name in names:
            images.unpin(cache, full_name(name))


@command.command("evict")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@cache_option
@json_option
@click.pass_obj
def evict(config: Config, *, names: tuple[str, ...], folder: str, as_json: bool) -> None:
    """Remove what was warmed of each IMAGE now, but for what other warmed images share.

    Containers that run go on: what they open next is fetched again.
    """
    results = []
    with opened_cache(with_cache(config, folder)) as cache:
        for name in names:
            files, freed = images.evict(cache, full_name(name))
            results.append({"name": full_name(name), "files": files, "bytes": freed})
            if not as_json:
                click.echo(printable(f"{full_name(name)}: {files} files, {size(freed)}, removed"))
    if as_json:
        click.echo(json.dumps(results, indent=2))


@command.command("du")
@click.option("--by-image", is_flag=True, help="Say what each image takes, alone and with others.")
@cache_option
@json_option
@click.pass_obj
def disk_usage(config: Config, *, by_image: bool, folder: str, as_json: bool) -> None:
    """Say what takes the room.

    With --by-image every image counts whose catalog is here, warmed or only started. SHARED
    is what others of them have, too; EXCLUSIVE would be free without it.
    """
    config = with_cache(config, folder)
    with opened_cache(config) as cache:
        found = usage(cache, by_image=by_image)
        names = _names(cache, config) if by_image else {}
    values = _usage_values(found, names, config.cache.max_bytes)
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    if not by_image:
        table = Table("KIND", "FILES", "BYTES", box=None, padding=(0, 2, 0, 0))
        for kind, (count, total) in sorted(found.by_kind.items()):
            table.add_row(str(kind), str(count), size(total))
    else:
        table = Table("IMAGE", "SHARED", "EXCLUSIVE", box=None, padding=(0, 2, 0, 0))
        for row in values["images"]:
            name = Text(printable(" ".join(row["names"]) or row["root"]))
            table.add_row(name, size(row["shared"]), size(row["exclusive"]))
        table.add_row("(none of these)", "", size(found.other))
    _print(table)
    click.echo(f"{size(values['bytes'])} of {size(config.cache.max_bytes)}")


@command.command("verify")
@click.option("--repair", is_flag=True, help="Remove what is damaged, fetch warmed images again.")
@cache_option
@json_option
@click.pass_obj
def verify_all(config: Config, *, repair: bool, folder: str, as_json: bool) -> None:
    """Hash everything again that is kept.

    With --repair, what is damaged is removed, and fetched again where it belongs to an image
    that was warmed; anything else comes when it is read next. The exit status is 0 when
    everything is right, or was mended, and 5 otherwise.
    """
    config = with_cache(config, folder)
    with opened_cache(config) as cache, Transfer(quiet=as_json) as progress:
        counted = usage(cache, by_image=False).by_kind
        sizes = list(counted.values())
        progress.total(sum(files for files, _ in sizes), sum(total for _, total in sizes))
        found = verify(cache, progress.advance)
        if repair:
            remove(cache, found.damaged)
        incomplete = [each for each in images.known_images(cache) if not each.complete]
    failures = _fetch_again(config, incomplete, quiet=as_json) if repair and found.damaged else []
    _say_verified(found, failures, repair=repair, as_json=as_json)
    if failures:
        raise click.exceptions.Exit(failures[0].exit_code)
    if found.damaged and not repair:
        raise click.exceptions.Exit(IntegrityError.exit_code)


def _fetch_again(
    config: Config, incomplete: Sequence[KnownImage], *, quiet: bool
) -> list[ThinfsError]:
    """Warm what is incomplete, by the recipes that were warmed."""
    if not incomplete:
        return []
    # Imported when there is something to fetch: it takes longer than most of these commands.
    warming = importlib.import_module("thinfs.daemon.warm")
    failures: list[ThinfsError] = []
    for pinned in (True, False):
        wanted = tuple(each.wanted for each in incomplete if each.pinned is pinned)
        if not wanted:
            continue
        job = warming.Warming(config, wanted, pinned, REPAIR_JOBS, 0)
        with Transfer(quiet=quiet) as progress:
            done = warming.warm(job, progress)
        failures += [each.error for each in done if each.error is not None]
    return failures


def _say_verified(
    found: Verified, failures: Sequence[ThinfsError], *, repair: bool, as_json: bool
) -> None:
    if as_json:
        values = {
            "files": found.files,
            "bytes": found.bytes,
            "damaged": [
                {"kind": str(each.kind), "digest": each.digest.hex(), "why": each.why}
                for each in found.damaged
            ],
            "repaired": repair and not failures,
            "errors": [str(each) for each in failures],
        }
        click.echo(json.dumps(values, indent=2))
        return
    for each in found.damaged:
        click.echo(f"{'removed' if repair else 'damaged'}: {each.kind} {each.digest.hex()}")
    for failure in failures:
        click.echo(printable(f"thinfs: {failure}"), err=True)
    click.echo(
        f"{found.files} files, {size(found.bytes)}: {len(found.damaged) or 'nothing'} damaged"
    )


def _names(cache: NodeCache, config: Config) -> dict[str, list[str]]:
    """Names of images by the digest of their catalog, and those of attached roots."""
    names: dict[str, list[str]] = {}

    def add(root: str, name: str) -> None:
        if name not in names.setdefault(root, []):
            names[root].append(name)

    for each in images.known_images(cache):
        _add_known(each, add)
    try:
        socket = Path(config.daemon.socket)
        with ControlClient(socket, timeout_s=STATUS_WITHIN_S) as client:
            for root in client.roots():
                if root.id not in names:
                    add(root.id, root.origin)
    except ThinfsError:
        pass  # no daemon, or somebody else's: names are only for people
    return names


def _add_known(image: KnownImage, add: Callable[[str, str], None]) -> None:
    try:
        extension = parse_recipe(image.wanted.recipe.encode()).thinfs
    except FormatError:  # of another version
        return
    if extension is not None:
        root = raw_digest(extension.root.catalog.digest).hex()[:ROOT_DIGITS]
        add(root, image.wanted.name)


def _usage_values(found: Usage, names: dict[str, list[str]], max_bytes: int) -> dict[str, Any]:
    return {
        "bytes": sum(total for _, total in found.by_kind.values()),
        "max_bytes": max_bytes,
        "kinds": {
            str(kind): {"files": count, "bytes": total}
            for kind, (count, total) in sorted(found.by_kind.items())
        },
        "images": [
            {
                "root": each.catalog.hex()[:ROOT_DIGITS],
                "names": names.get(each.catalog.hex()[:ROOT_DIGITS], []),
                "shared": each.shared,
                "exclusive": each.exclusive,
            }
            for each in found.images
        ],
        "other": found.other,
    }


def _image_values(image: KnownImage) -> dict[str, Any]:
    kind, *patterns = image.wanted.part.split("\n")
    return {
        "name": image.wanted.name,
        "part": kind,
        "patterns": patterns,
        "pinned": image.pinned,
        "complete": image.complete,
        "files": image.files,
        "files_here": image.here,
        "bytes": image.bytes,
        "bytes_here": image.bytes_here,
    }


def _print(table: Table) -> None:
    Console(highlight=False, soft_wrap=True).print(table)
