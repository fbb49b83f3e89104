"""``thinfs convert``: an image becomes objects in a repository, and a thin image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from thinfs.cli import progress as progress_view
from thinfs.cli.goals import goal_options
from thinfs.convert.job import Job, Outcome, run
from thinfs.convert.objects import DEFAULT_LEVEL
from thinfs.errors import UsageError
from thinfs.oci.model import Platform
from thinfs.oci.reference import parse_reference

if TYPE_CHECKING:
    from thinfs.config import Config
    from thinfs.convert.image import ConvertedImage
    from thinfs.convert.job import Goals

_MB = 1_000_000

_EXAMPLES = """
\b
Examples:
  thinfs convert redis:4
  thinfs convert --repo /srv/thin --url https://images.example.org/thin redis:4
  thinfs convert --push registry.example.org/redis:4-thin redis:4
  thinfs convert --all-platforms --output oci:/tmp/thin:redis oci:/tmp/redis:4
  thinfs convert --profile redis.profile redis:4
  thinfs convert --json docker-archive:saved.tar
"""


@click.command(epilog=_EXAMPLES)
@click.argument("image")
@click.option("--repo", type=click.Path(path_type=Path), help="Directory of the repository.")
@click.option("--url", help="Address of the repository for nodes.  [default: its file: address]")
@click.option("--platform", "platforms", multiple=True, help="Such as linux/arm64; repeatable.")
@click.option("--all-platforms", is_flag=True, help="Every platform of an index.")
@click.option("--name", help="Name of the thin image.  [default: the image's, with -thin]")
@goal_options
@click.option("--threads", type=click.IntRange(1, 256), help="That compress.  [default: all]")
@click.option(
    "--level", type=click.IntRange(1, 19), default=DEFAULT_LEVEL, show_default=True, help="Of zstd."
)
@click.option(
    "--profile",
    default="auto",
    show_default=True,
    metavar="FILE|auto",
    help="Boot profile to convert with; auto: the one that the repository has of this image, or"
    " of another version of it.",
)
@click.option("--no-profile", is_flag=True, help="Convert without a boot profile.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, no progress.")
@click.pass_obj
def command(
    config: Config,
    *,
    image: str,
    repo: Path | None,
    url: str | None,
    platforms: tuple[str, ...],
    all_platforms: bool,
    name: str | None,
    goals: Goals,
    threads: int | None,
    level: int,
    profile: str,
    no_profile: bool,
    as_json: bool,
) -> None:
    """Convert IMAGE so that containers can start before it has arrived.

    IMAGE is a registry reference as Docker writes it, oci:DIR[:TAG], oci-archive:FILE[:TAG]
    or docker-archive:FILE[:REF]. Its files go into the repository; the thin image, one small
    layer, goes to containerd, a registry or a layout.
    """
    repository = (repo or Path(config.repository.path)).absolute()
    job = Job(
        image=image,
        repository=repository,
        url=url or config.repository.url or repository.as_uri(),
        platforms=_platforms(platforms, all_platforms=all_platforms),
        name=parse_reference(name).canonical if name else None,
        threads=threads,
        level=level,
        goals=goals,
        profile=_profile(profile, no_profile=no_profile),
    )
    with progress_view.for_stderr(quiet=as_json) as progress:
        outcome = run(job, config.registry, progress)
    click.echo(json.dumps(as_values(outcome), indent=2) if as_json else _text(outcome))


def _platforms(names: tuple[str, ...], *, all_platforms: bool) -> tuple[Platform, ...] | None:
    if all_platforms and names:
        raise UsageError("--platform and --all-platforms exclude each other")
    if all_platforms:
        return None
    return tuple(Platform.parse(name) for name in names) or (Platform.host(),)


def _profile(text: str, *, no_profile: bool) -> Path | Literal["auto"] | None:
    if no_profile and text != "auto":
        raise UsageError("--profile and --no-profile exclude each other")
    if no_profile:
        return None
    return "auto" if text == "auto" else Path(text)


def as_values(outcome: Outcome) -> dict[str, Any]:
    """The outcome as ``--json`` prints it. Sizes are bytes."""
    return {
        "name": outcome.name,
        "digest": outcome.digest,
        "seconds": round(outcome.seconds, 3),
        "places": list(outcome.places),
        "images": [_image_values(image) for image in outcome.images],
    }


def _image_values(done: ConvertedImage) -> dict[str, Any]:
    return {
        "platform": str(done.image.platform),
        "origin": done.recipe.origin,
        "layers": len(done.image.layers),
        "layers_present": done.layers_present,
        "compressed_bytes": sum(layer.descriptor.size for layer in done.image.layers),
        "downloaded_bytes": done.downloaded_bytes,
        "body_bytes": done.counts.body_bytes,
        "deduplicated_bytes": done.counts.deduplicated_bytes,
        "new_objects": done.counts.new_objects,
        "new_bytes": done.counts.new_bytes,
        "root_stored_bytes": done.root.stored_bytes,
        "catalog": done.root.catalog.digest,
        "catalog_stored_bytes": done.root.catalog.stored_size,
        "profile": done.root.profile,
    }


def _text(outcome: Outcome) -> str:
    lines = [f"{outcome.name}  ({outcome.seconds:.1f} s)"]
    for done in outcome.images:
        counts = done.counts
        lines.append(
            f"  {done.image.platform}: {len(done.image.layers)} layers"
            f" ({done.layers_present} already here), {done.downloaded_bytes / _MB:.1f} MB read,"
            f" {counts.new_bytes / _MB:.1f} MB stored new,"
            f" {counts.deduplicated_bytes / _MB:.1f} MB of files were here already"
            f"{'; starts by a boot profile' if done.root.profile else ''}"
        )
    lines += [f"  in {place}" for place in outcome.places]
    return "\n".join(lines)
