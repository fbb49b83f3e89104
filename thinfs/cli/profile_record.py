"""``thinfs profile record``: start an image once and keep what it touches."""

from __future__ import annotations

import json
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from catalog.reader import CatalogReader
from thinfs.bench.contestants import Wanted, lineup
from thinfs.bench.measure import check_root
from thinfs.bench.recording import Recorded, record
from thinfs.bench.scratch import scratch
from thinfs.cli.goals import goal_options
from thinfs.cli.repositories import Stages, json_option, opened, repo_option, with_repo
from thinfs.cli.text import printable
from thinfs.cli.thinparts import thin_parts
from thinfs.cli.worlds import ready_options, scratch_option, timeout_option
from thinfs.control.client import ControlClient
from thinfs.convert.job import deliver, place_in
from thinfs.convert.profile_merge import merge_profiles
from thinfs.convert.profile_trace import profile_from_trace
from thinfs.convert.renew import apply_profile
from thinfs.errors import MissingError, StoreError, UsageError
from thinfs.roots.opening import catalog_digest, root_id
from thinfs.store.profiles import render_profile
from thinfs.store.records import PublishedFile
from thinfs.store.shelf import ProfileShelf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.bench.values import Ready
    from thinfs.config import Config
    from thinfs.convert.job import Goals
    from thinfs.convert.renew import ThinParts
    from thinfs.store.local import LocalRepository
    from thinfs.store.profiles import Profile

CONTROL_TIMEOUT_S = 30.0

_EXAMPLES = """
\b
Examples:
  thinfs profile record redis:4-thin --ready-line 'Ready to accept connections'
  thinfs profile record app:1-thin --ready-http http://127.0.0.1:8080/health --runs 3
  thinfs profile record python:3-thin -- python3 -c 'import numpy'
  thinfs profile record app:1-thin --live --ready-after 20 --save app.profile --no-publish
"""


@click.command(epilog=_EXAMPLES)
@click.argument("image")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@ready_options
@click.option("--runs", type=click.IntRange(1, 20), default=1, show_default=True, help="Starts.")
@click.option(
    "--live",
    is_flag=True,
    help="Start nothing: take what this node's daemon has seen since the image was attached.",
)
@click.option(
    "--ready-after",
    type=float,
    metavar="SECONDS",
    help="With --live: what was read later does not count.  [default: all counts]",
)
@click.option(
    "--fresh", is_flag=True, help="Forget the image's earlier profile in place of merging."
)
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the profile to a file."
)
@click.option(
    "--publish/--no-publish",
    default=True,
    help="Make the image start by the profile, as thinfs profile apply does.",
)
@timeout_option
@scratch_option
@repo_option
@goal_options
@json_option
@click.pass_obj
def record_command(
    config: Config,
    *,
    image: str,
    arguments: tuple[str, ...],
    ready: Ready,
    runs: int,
    live: bool,
    ready_after: float | None,
    fresh: bool,
    save: Path | None,
    publish: bool,
    timeout: float,
    scratch_base: Path,
    repo: str,
    goals: Goals,
    as_json: bool,
) -> None:
    """Start IMAGE and record what it touches until it is ready: its boot profile.

    IMAGE is a thin image in the repository. It is started with a containerd, caches and mounts
    of its own; nothing of this machine's containerd is touched. ARGUMENTS replace the image's
    command. The profile is merged with the one that the image has, kept in the repository, and
    the image made to start by it. Without --ready-…, it counts as ready when it has ended
    with 0.

    Needs root, containerd, ctr and runc; with --live only the daemon.
    """
    if not publish and save is None:
        raise UsageError("--no-publish without --save would record for nothing: give --save FILE")
    if ready_after is not None and not live:
        raise UsageError("--ready-after is for --live")
    stages = Stages(quiet=as_json)
    repository = opened(config, repo)
    name, parts, indexed = thin_parts(repository, image)
    if live:
        recorded = [_live(config, parts, ready_after)]
    else:
        check_root()
        # what CI sends to a job that takes too long: clean up as after Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        wanted = Wanted(name)
        with (
            scratch(scratch_base.absolute()) as place,
            lineup(wanted, with_repo(config, repo), place, stages.stage) as found,
        ):
            recorded = record(
                place,
                found,
                image=image,
                command=arguments,
                ready=ready,
                runs=runs,
                timeout_s=timeout,
                say=stages.stage,
            )
    part = _part_of(parts, recorded[0])
    profile = _merged(repository, part, recorded, fresh=fresh)
    if save is not None:
        _write(save, profile)
    places: tuple[str, ...] = ()
    if publish:
        stages.stage("packing what a start touches")
        done = apply_profile(repository, name, parts, profile, indexed=indexed)
        places = (
            place_in(repository.path, name),
            *deliver(done.thin, name, goals, config.registry),
        )
    outcome = _Outcome(name, profile, places)
    click.echo(json.dumps(outcome.values, indent=2) if as_json else outcome.text)


@dataclass(frozen=True, slots=True)
class _Outcome:
    name: str
    profile: Profile
    places: tuple[str, ...]

    @property
    def values(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        return {
            "name": self.name,
            "runs": self.profile.runs,
            "ready_ms": self.profile.ready_ms,
            "contents": len(self.profile.touched),
            "places": list(self.places),
        }

    @property
    def text(self) -> str:
        """For people."""
        what = f"{len(self.profile.touched)} contents are touched until it is ready"
        first = f"{printable(self.name)}: {what} (runs: {self.profile.runs})"
        return "\n".join([first, *(f"  in {printable(place)}" for place in self.places)])


def _live(config: Config, parts: Sequence[ThinParts], ready_after: float | None) -> Recorded:
    """What the node's daemon has seen of an image that is attached."""
    wanted = {_root(part) for part in parts}
    with ControlClient(Path(config.daemon.socket), timeout_s=CONTROL_TIMEOUT_S) as control:
        attached = next((root.id for root in control.roots() if root.id in wanted), None)
        if attached is None:
            raise MissingError("the image is not attached on this node: start a container of it")
        trace = control.trace(attached)
    if not any(event.what == "read" for event in trace.events):
        raise MissingError(
            "nothing of the image was read through the daemon since it was attached: it was warm."
            " Record it without --live"
        )
    end = max(event.at_s + event.duration_s for event in trace.events)
    return Recorded(trace, 0.0, end if ready_after is None else ready_after)


def _root(part: ThinParts) -> str:
    return root_id(catalog_digest(part.recipe))


def _part_of(parts: Sequence[ThinParts], recorded: Recorded) -> ThinParts:
    """The platform that was started."""
    for part in parts:
        if _root(part) == recorded.trace.root:
            return part
    raise StoreError("what was started is not what the repository holds under this name")


def _merged(
    repository: LocalRepository, part: ThinParts, recorded: Sequence[Recorded], *, fresh: bool
) -> Profile:
    """The profile of all starts, and of those that were recorded before."""
    assert part.recipe.thinfs is not None
    root = part.recipe.thinfs.root
    catalog = PublishedFile(root.catalog.digest, root.catalog.size, root.catalog.stored_size)
    with tempfile.TemporaryDirectory(prefix="thinfs-") as folder:
        target = Path(folder) / "root.sqlite"
        if not repository.unpack_catalog(catalog, target):
            raise MissingError(
                f"{repository.path} lacks the catalog of the image;"
                " thinfs check --repair mends a repository"
            )
        reader = CatalogReader.open(target)
        try:
            profiles = [
                profile_from_trace(
                    each.trace,
                    reader,
                    chain_id=root.chain_id,
                    ready_s=each.ready_s,
                    started_s=each.started_s,
                    metadata=root.metadata.digest if root.metadata else "",
                )
                for each in recorded
            ]
        finally:
            reader.close()
    earlier = None if fresh else ProfileShelf(repository.path).get(root.chain_id)
    if earlier is not None and earlier.chain_id == root.chain_id:
        profiles.insert(0, earlier)
    return merge_profiles(profiles)


def _write(output: Path, profile: Profile) -> None:
    try:
        output.write_bytes(render_profile(profile))
    except OSError as error:
        raise StoreError(f"{output}: {error.strerror}") from error
