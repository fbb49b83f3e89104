"""``thinfs gc``: files that no image needs any more are removed from a repository."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from thinfs.cli.repositories import Duration, Stages, bare_repo_option, json_option, opened
from thinfs.cli.status import ago, size
from thinfs.cli.text import printable
from thinfs.repository.collect import Collected, Pile, Terms, collect

if TYPE_CHECKING:
    from thinfs.config import Config
    from thinfs.oci.kept import RemovedImage

_EXAMPLES = """
\b
Examples:
  thinfs rm redis:4-thin            # an image is removed first,
  thinfs gc                         # what only it needed goes a week later
  thinfs gc --dry-run --grace 0     # what would there be to gain?
  thinfs gc --repo /srv/thin --grace 2w --json
"""


@click.command(epilog=_EXAMPLES)
@bare_repo_option
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option(
    "--grace",
    type=Duration(),
    default="7d",
    show_default=True,
    help="How long what an image needed stays after the image was removed.",
)
@click.option(
    "--wait",
    type=Duration(),
    default="5m",
    show_default=True,
    help="Longest wait for converters at work; new ones wait meanwhile.",
)
@json_option
@click.pass_obj
def command(
    config: Config, *, repo: str, dry_run: bool, grace: float, wait: float, as_json: bool
) -> None:
    """Remove what no image of a repository needs any more.

    Images are removed first, with thinfs rm, or by converting another one under their name.
    Files that no image needs go when the last one that needed them was removed longer ago
    than the grace time. Converters may go on working, readers notice nothing, and a run that
    is killed leaves nothing but work for the next one.
    """
    repository = opened(config, repo)
    now_s = time.time()
    terms = Terms(grace_s=grace, wait_s=wait, now_s=now_s, dry_run=dry_run)
    done = collect(repository, terms, Stages(quiet=as_json))
    click.echo(json.dumps(as_values(done), indent=2) if as_json else _text(done, terms))


def as_values(done: Collected) -> dict[str, Any]:
    """A collection as ``--json`` prints it. Sizes are bytes, times seconds since 1970."""
    return {
        "images": done.images,
        "waiting": [_note_values(note) for note in done.waiting],
        "expired": [_note_values(note) for note in done.expired],
        "removed": {folder: _pile_values(pile) for folder, pile in sorted(done.removed.items())},
        "removed_files": done.total.files,
        "removed_bytes": done.total.bytes,
        "needed": _pile_values(done.needed),
        "young": _pile_values(done.young),
    }


def _note_values(note: RemovedImage) -> dict[str, Any]:
    return {"name": note.name, "digest": note.digest, "removed_at": note.removed_at}


def _pile_values(pile: Pile) -> dict[str, int]:
    return {"files": pile.files, "bytes": pile.bytes}


def _text(done: Collected, terms: Terms) -> str:
    verb = "would go" if terms.dry_run else "removed"
    kinds = ", ".join(f"{pile.files} of {folder}" for folder, pile in sorted(done.removed.items()))
    lines = [f"{verb}: {_shown(done.total)}{f' ({kinds})' if kinds else ''}"]
    lines.append(f"needed: {_shown(done.needed)}, by {done.images} images and what waits")
    if done.young.files:
        lines.append(f"too young to go: {_shown(done.young)}")
    for note in done.waiting:
        left = note.removed_at + terms.grace_s - terms.now_s
        lines.append(
            f"waiting: {printable(note.name)}, removed {ago(terms.now_s - note.removed_at)} ago,"
            f" goes in {ago(left)}"
        )
    return "\n".join(lines)


def _shown(pile: Pile) -> str:
    return f"{pile.files} files, {size(pile.bytes)}"
