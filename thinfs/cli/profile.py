"""``thinfs profile``: what containers touch until they are ready."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from thinfs.cli.goals import goal_options
from thinfs.cli.profile_record import record_command
from thinfs.cli.repositories import Stages, json_option, opened, repo_option
from thinfs.cli.status import size
from thinfs.cli.text import printable
from thinfs.cli.thinparts import profile_of, thin_parts
from thinfs.convert.choosing import read_profile
from thinfs.convert.job import deliver, place_in
from thinfs.convert.profile_merge import MOST, merge_profiles
from thinfs.convert.renew import apply_profile
from thinfs.errors import StoreError
from thinfs.store.profiles import render_profile

if TYPE_CHECKING:
    from thinfs.config import Config
    from thinfs.convert.job import Goals
    from thinfs.convert.renew import Renewed
    from thinfs.store.profiles import Profile, Touched

LINES: Final = 20
"""Contents that show lists unless it is asked for others."""

_EXAMPLES = """
\b
Examples:
  thinfs profile record redis:4-thin --ready-line 'Ready to accept connections'
  thinfs profile show redis:4-thin
  thinfs profile show --all redis.profile
  thinfs profile merge first.profile second.profile -o redis.profile
  thinfs profile apply redis:4-thin redis.profile
"""


@click.group(epilog=_EXAMPLES)
def command() -> None:
    """Boot profiles: what containers of an image touch until they are ready, in order.

    An image with a profile starts with few large requests for exactly that. Profiles are kept
    in the repository beside the image, and are used when it, or another version of it, is
    converted again.
    """


command.add_command(record_command, "record")


@command.command(epilog=_EXAMPLES)
@click.argument("what", metavar="IMAGE|FILE")
@repo_option
@click.option("--all", "show_all", is_flag=True, help="List every content.")
@json_option
@click.pass_obj
def show(config: Config, *, what: str, repo: str, show_all: bool, as_json: bool) -> None:
    """Show a profile: of an image in the repository, or from a file."""
    if Path(what).is_file():
        profile = read_profile(Path(what))
    else:
        profile = profile_of(opened(config, repo), what)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(profile), indent=2))
    else:
        click.echo("\n".join(_lines(profile, len(profile.touched) if show_all else LINES)))


@command.command(epilog=_EXAMPLES)
@click.argument("image")
@click.argument("file", type=click.Path(path_type=Path))
@repo_option
@goal_options
@click.option("--threads", type=click.IntRange(1, 256), help="That compress.  [default: all]")
@json_option
@click.pass_obj
def apply(
    config: Config,
    *,
    image: str,
    file: Path,
    repo: str,
    goals: Goals,
    threads: int | None,
    as_json: bool,
) -> None:
    """Let IMAGE, which is in the repository, start by the profile in FILE.

    Nothing is converted or downloaded again: what a start touches is packed anew from what the
    repository holds, and the thin image, which has another digest then, goes where it is
    wanted. Containers of the old one are not disturbed.
    """
    profile = read_profile(file)
    repository = opened(config, repo)
    name, parts, indexed = thin_parts(repository, image)
    Stages(quiet=as_json).stage("packing what a start touches")
    done = apply_profile(repository, name, parts, profile, indexed=indexed, threads=threads)
    places = deliver(done.thin, name, goals, config.registry)
    values = as_values(name, done, (place_in(repository.path, name), *places))
    click.echo(json.dumps(values, indent=2) if as_json else _applied(values))


@command.command(epilog=_EXAMPLES)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write."
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1),
    default=MOST,
    show_default=True,
    help="Part of the runs that must have touched a content; 0 for any of them.",
)
def merge(*, files: tuple[Path, ...], output: Path, share: float) -> None:
    """Merge profiles of several starts of one image: what most of them touch."""
    profile = merge_profiles([read_profile(file) for file in files], share)
    try:
        output.write_bytes(render_profile(profile))
    except OSError as error:
        raise StoreError(f"{output}: {error.strerror}") from error
    click.echo(f"{output}: {len(profile.touched)} contents of {profile.runs} runs")


def as_values(name: str, done: Renewed, places: tuple[str, ...]) -> dict[str, Any]:
    """What apply did, as ``--json`` prints it. Sizes are bytes."""
    return {
        "name": name,
        "digest": done.thin.digest,
        "places": list(places),
        "roots": [msgspec.to_builtins(each) for each in done.roots],
    }


def _applied(values: dict[str, Any]) -> str:
    lines = [f"{printable(values['name'])} starts by the profile now: {values['digest']}"]
    lines += [f"  in {printable(place)}" for place in values["places"]]
    return "\n".join(lines)


def _lines(profile: Profile, most: int) -> list[str]:
    lines = [
        printable(profile.origin),
        f"  {profile.runs} runs, ready after {profile.ready_ms} ms",
        f"  {len(profile.touched)} contents are touched",
        "",
    ]
    lines += [_line(each) for each in profile.touched[:most]]
    left = len(profile.touched) - most
    if left > 0:
        lines.append(f"  and {left} more: see --all")
    return lines


def _line(touched: Touched) -> str:
    part = size(sum(length for _, length in touched.ranges)) if touched.ranges else "whole"
    name = f"/{printable(touched.path)}" if touched.path else touched.content[:12]
    return f"{touched.at_ms:7d} ms  {part:>10}  {name}"
