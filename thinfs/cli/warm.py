"""``thinfs warm``: bring images to this node before anybody asks for them."""

from __future__ import annotations

import importlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from thinfs.cache.images import ALL, PATHS, PROFILE, Wanted, is_complete, known_images
from thinfs.cli.caches import Rate, cache_option, full_name, opened_cache, with_cache
from thinfs.cli.repositories import Transfer, json_option
from thinfs.cli.status import size
from thinfs.cli.text import printable
from thinfs.errors import FormatError, MissingError, StoreError, ThinfsError, UsageError
from thinfs.roots.recipes import find_recipe
from thinfs.store.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.config import Config
    from thinfs.daemon.warm import Warmed

STDIN = "-"

_EXAMPLES = """
\b
Examples:
  thinfs warm --all --pin registry.example.org/redis:4-thin
  thinfs warm --profile --from images.txt --bwlimit 20M
  thinfs warm --path /usr/lib/python3 --path '/opt/*/bin' python:3-thin
  srun --ntasks-per-node=1 thinfs warm --all --json simulation:7-thin
"""


@dataclass(frozen=True, slots=True)
class _Result:
    """How it went with one image; ``state`` is ``complete``, ``warmed`` or ``failed``."""

    name: str
    state: str
    files: int = 0
    bytes: int = 0
    fetched_objects: int = 0
    fetched_bytes: int = 0
    error: ThinfsError | None = None


@click.command(epilog=_EXAMPLES)
@click.argument("images", nargs=-1, metavar="IMAGE...")
@click.option("--all", "everything", is_flag=True, help="All of the image.  [default]")
@click.option("--profile", is_flag=True, help="What its boot profile says a start needs.")
@click.option(
    "--path",
    "patterns",
    multiple=True,
    metavar="GLOB",
    help="Files with such paths, and all below such directories; * matches /, too. Repeatable.",
)
@click.option("--pin", "pinned", is_flag=True, help="Have it stay until thinfs cache unpin.")
@click.option("--bwlimit", type=Rate(), default=0, metavar="RATE", help="Bytes/s, such as 20M.")
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Downloads at a time."
)
@click.option(
    "--from",
    "file",
    metavar="FILE|-",
    help="A list of images, one a line; # begins a comment.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="URL",
    help="A repository that may be contacted, beside [sources] allow; repeatable.",
)
@cache_option
@json_option
@click.pass_obj
def command(
    config: Config,
    *,
    images: tuple[str, ...],
    everything: bool,
    profile: bool,
    patterns: tuple[str, ...],
    pinned: bool,
    bwlimit: int,
    jobs: int,
    file: str | None,
    allow: tuple[str, ...],
    folder: str,
    as_json: bool,
) -> None:
    """Bring each thin IMAGE to this node's cache, so that containers start from there.

    Only what is missing is fetched: a warm that was interrupted goes on where it was, and one
    of an image that is here says so and ends. The image need not have been pulled, and the
    daemon may run or not. Room is checked before anything but catalogs is fetched.

    The exit status is 0 when everything is here, and otherwise that of the first failure.
    """
    if everything and (profile or patterns):
        raise UsageError("--all excludes --profile and --path")
    names = _names(images, file)
    config = _effective(config, allow, folder)
    part = _part(profile=profile, patterns=patterns)
    began = time.monotonic()
    results, missing = _look(names, part, config, pinned=pinned)
    if missing:
        done = _warm(config, missing, (pinned, jobs, bwlimit), quiet=as_json)
        results += [_result(each) for each in done]
    order = {full_name(name): number for number, name in enumerate(names)}
    results.sort(key=lambda each: order[each.name])
    _say(results, part, config, time.monotonic() - began, as_json=as_json)
    for each in results:
        if each.error is not None:
            raise click.exceptions.Exit(each.error.exit_code)


def _names(images: Sequence[str], file: str | None) -> list[str]:
    listed = _list_in(file) if file else ""
    lines = [line.partition("#")[0].strip() for line in listed.splitlines()]
    names = list(dict.fromkeys(filter(None, (*images, *lines))))
    if not names:
        raise UsageError("no image is named: thinfs warm IMAGE..., or --from FILE")
    by_full_name = {full_name(name): name for name in names}
    return list(by_full_name.values())


def _list_in(file: str) -> str:
    try:
        return sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingError(f"{file} does not exist") from error
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{file} is no list of images: {error}") from error


def _effective(config: Config, allow: tuple[str, ...], folder: str) -> Config:
    for url in allow:
        parse_address(url)
    sources = replace(config.sources, allow=[*config.sources.allow, *allow])
    return with_cache(replace(config, sources=sources), folder)


def _part(*, profile: bool, patterns: Sequence[str]) -> str:
    if profile and patterns:
        raise UsageError("--profile and --path exclude each other")
    if any("\n" in pattern or not pattern.strip("/") for pattern in patterns):
        raise UsageError("--path takes patterns such as /usr/lib/python3*")
    if patterns:
        return "\n".join((PATHS, *sorted({pattern.strip("/") for pattern in patterns})))
    return PROFILE if profile else ALL


def _look(
    names: Sequence[str], part: str, config: Config, *, pinned: bool
) -> tuple[list[_Result], list[Wanted]]:
    """Which images are here already, or cannot be found, and which are to come."""
    results: list[_Result] = []
    missing: list[Wanted] = []
    with opened_cache(config, make=True) as cache:
        for name in names:
            full = full_name(name)
            try:
                wanted = Wanted(full, part, find_recipe(name, config))
            except ThinfsError as error:
                results.append(_Result(full, "failed", error=error))
                continue
            if is_complete(cache, wanted, pinned=pinned):
                known = known_images(cache, full)[0]
                results.append(_Result(full, "complete", known.files, known.bytes))
            else:
                missing.append(wanted)
    return results, missing


def _warm(
    config: Config, missing: Sequence[Wanted], how: tuple[bool, int, int], *, quiet: bool
) -> list[Warmed]:
    # Imported when there is something to do: what is complete is said within half a second.
    warming = importlib.import_module("thinfs.daemon.warm")
    job = warming.Warming(config, tuple(missing), *how)
    try:
        with Transfer(quiet=quiet) as progress:
            done: list[Warmed] = warming.warm(job, progress)
            return done
    except StoreError as error:
        return [warming.Warmed(wanted, error=error) for wanted in missing]


def _result(warmed: Warmed) -> _Result:
    return _Result(
        warmed.wanted.name,
        "warmed" if warmed.error is None else "failed",
        warmed.files,
        warmed.bytes,
        warmed.fetched_objects,
        warmed.fetched_bytes,
        warmed.error,
    )


def _say(
    results: Sequence[_Result], part: str, config: Config, seconds: float, *, as_json: bool
) -> None:
    if as_json:
        values = {
            "cache": config.cache.path,
            "part": part.split("\n", maxsplit=1)[0],
            "seconds": round(seconds, 3),
            "failed": sum(each.error is not None for each in results),
            "images": [_values(each) for each in results],
        }
        click.echo(json.dumps(values, indent=2))
        return
    for each in results:
        if each.error is not None:
            print(printable(f"thinfs: {each.name}: {each.error}"), file=sys.stderr)
        else:
            click.echo(printable(f"{each.name}: {_text(each)}"))


def _text(result: _Result) -> str:
    if result.state == "complete":
        return f"nothing to do, {result.files} files are here"
    return (
        f"{result.files} files are here; {result.fetched_objects} objects,"
        f" {size(result.fetched_bytes)}, were fetched"
    )


def _values(result: _Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "state": result.state,
        "files": result.files,
        "bytes": result.bytes,
        "fetched_objects": result.fetched_objects,
        "fetched_bytes": result.fetched_bytes,
        "error": str(result.error) if result.error is not None else "",
        "error_kind": type(result.error).__name__ if result.error is not None else "",
    }
