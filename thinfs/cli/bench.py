"""``thinfs bench``: how long a container of an image takes to be ready."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace
from rich.console import Console

from thinfs.bench import baseline, junit, markdown, measure, page, results
from thinfs.bench.contestants import Wanted, lineup
from thinfs.bench.measure import DEFAULT_RUNS, Plan
from thinfs.bench.scratch import scratch
from thinfs.bench.values import parse_link
from thinfs.cli.bench_tables import tables
from thinfs.cli.text import printable
from thinfs.cli.worlds import ready_options, scratch_option, timeout_option
from thinfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.bench.baseline import Change
    from thinfs.bench.values import Ready, Report
    from thinfs.config import Config

REGRESSED = 8
"""Exit code when a measure is worse than the baseline allows; errors have 1 to 7."""

DEFAULT_REGRESS = "10%"
TABLE_COLUMNS = 120
"""A narrower terminal wraps the tables itself: half a figure would be a wrong one."""

_EXAMPLES = """
\b
Examples:
  thinfs bench redis:4 --ready-line 'Ready to accept connections'
  thinfs bench redis:4-thin --link 100mbit,10ms --ready-tcp 6379 --warm
  thinfs bench oci:./image -- python3 -c 'import numpy'
  thinfs bench registry.example.org/app:1-thin --ready-http http://127.0.0.1:8080/health
  thinfs bench app:1-thin --json now.json --html now.html --baseline main.json --max-regress 10%
  thinfs bench app:1-thin --against overlayfs,stargz --image stargz=registry.example.org/app:1-esgz
"""

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog=_EXAMPLES)
@click.argument("image")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@ready_options
@click.option("--link", metavar="RATE,RTT", help="The line to the outside, such as 1gbit,1ms.")
@click.option(
    "--runs", type=click.IntRange(1, 100), default=DEFAULT_RUNS, show_default=True, help="Starts."
)
@click.option("--warm", is_flag=True, help="Start each container a second time in its world.")
@click.option(
    "--against",
    multiple=True,
    metavar="NAME[,NAME…]|NAME=COMMAND",
    help="Other snapshotters: built into containerd, stargz, or the command that serves one on"
    " {socket} with its data in {root}; repeatable.  [default: overlayfs]",
)
@click.option("--alone", is_flag=True, help="Measure thinfs alone.")
@click.option(
    "--image", "images", multiple=True, metavar="NAME=REF", help="Another image for a contestant."
)
@click.option(
    "--pull", "pulls", multiple=True, metavar="NAME=COMMAND", help="Another way to pull for one."
)
@click.option(
    "--hosts-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of <registry>/hosts.toml files.  [default: [registry] hosts_dirs]",
)
@timeout_option
@scratch_option
@click.option("--baseline", "baseline_file", type=_FILE, help="Earlier results to compare with.")
@click.option(
    "--max-regress",
    default=DEFAULT_REGRESS,
    show_default=True,
    metavar="PERCENT",
    help="How much worse than the baseline is allowed; what is worse exits with 8.",
)
@click.option("--junit", "junit_file", type=_FILE, help="Write JUnit XML.")
@click.option("--markdown", "markdown_file", type=_FILE, help="Write Markdown.")
@click.option("--html", "html_file", type=_FILE, help="Write a page with a waterfall.")
@click.option("--json", "json_file", type=_FILE, help="Write all results as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    image: str,
    arguments: tuple[str, ...],
    ready: Ready,
    link: str | None,
    runs: int,
    warm: bool,
    against: tuple[str, ...],
    alone: bool,
    images: tuple[str, ...],
    pulls: tuple[str, ...],
    hosts_dir: Path | None,
    timeout: float,
    scratch_base: Path,
    baseline_file: Path | None,
    max_regress: str,
    junit_file: Path | None,
    markdown_file: Path | None,
    html_file: Path | None,
    json_file: Path | None,
) -> None:
    """Measure how long a container of IMAGE takes to be ready, from an empty node.

    IMAGE is a thin image or an ordinary one, which is then converted for the measurement: a
    reference, or oci:DIR[:TAG]. ARGUMENTS replace the image's command. Each start has a
    containerd, caches and snapshotters of its own, behind one line; nothing of this machine's
    containerd is touched. Without --ready-…, a container is ready when it has ended with 0.

    Needs root, containerd, ctr and runc.
    """
    shaped = parse_link(link) if link else None
    if alone and against:
        raise UsageError("--alone and --against exclude each other")
    wanted = Wanted(
        image=image,
        against=() if alone else against or ("overlayfs",),
        images=_named("--image", images),
        pulls=_named("--pull", pulls),
    )
    allowed = baseline.parse_percent(max_regress)
    before = results.read(baseline_file) if baseline_file else None
    measure.check_root()
    # what CI sends to a job that takes too long: clean up as after Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = _with_hosts(ctx.obj, hosts_dir)
    with scratch(scratch_base.absolute()) as place, lineup(wanted, config, place, _say) as found:
        plan = Plan(
            image=image,
            contestants=found.contestants,
            command=arguments,
            ready=ready,
            link=shaped,
            runs=runs,
            warm=warm,
            timeout_s=timeout,
            hosts_dir=found.hosts_dir,
            plain_http=found.plain_http,
            logins=found.logins,
            notes=found.notes,
        )
        report = measure.measure_in(place, plan, _say)
    changes = baseline.changes(report, before, allowed) if before else []
    _show(report, changes)
    for file, render in (
        (json_file, results.text),
        (junit_file, junit.render),
        (markdown_file, markdown.render),
        (html_file, page.render),
    ):
        if file is not None:
            results.write_text(file, render(report, changes))
    if any(change.regressed for change in changes):
        ctx.exit(REGRESSED)


def _with_hosts(config: Config, hosts_dir: Path | None) -> Config:
    if hosts_dir is None:
        return config
    registry = replace(config.registry, hosts_dirs=[str(hosts_dir.absolute())])
    return replace(config, registry=registry)


def _named(option: str, values: Sequence[str]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, _, value in pairs:
        if not name or not value:
            raise UsageError(f"{option}: give NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _say(text: str) -> None:
    click.echo(text, err=True)


def _show(report: Report, changes: Sequence[Change]) -> None:
    console = Console(highlight=False)
    console = Console(highlight=False, width=max(console.width, TABLE_COLUMNS))
    what = " ".join([report.image, shlex.join(report.command)]).strip()
    line = report.link.text if report.link else "unshaped"
    starts = len(report.series[0].cold)
    _line(console, f"{what}, link {line}, {starts} cold {'start' if starts == 1 else 'starts'}")
    for table in tables(report):
        console.print(table)
    for change in changes:
        mark = "worse: " if change.regressed else ""
        _line(console, f"{mark}{change.text}")
    for note in report.notes:
        _line(console, note)


def _line(console: Console, text: str) -> None:
    console.print(printable(text), markup=False, soft_wrap=True)
