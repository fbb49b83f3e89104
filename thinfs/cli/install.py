"""``thinfs install``: containerd, systemd and our own configuration."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click
import msgspec

from thinfs.cli import config_text
from thinfs.config import Config
from thinfs.errors import UsageError
from thinfs.install import diff, probe
from thinfs.install.containerd import Version, parse_version
from thinfs.install.machine import Machine
from thinfs.install.plan import UNITS, Layout, Plan, plan_install, plan_uninstall
from thinfs.install.units import DAEMON, SNAPSHOTTER

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = ("thinfs", "thin-snapshotter")
COLOURS = {"+": "green", "-": "red", "@": "cyan"}


class Change(msgspec.Struct, frozen=True):
    """One file of a report: ``action`` is create, update or remove."""

    path: str
    action: str


class Report(msgspec.Struct, frozen=True):
    """What ``--json`` prints.

    Attributes:
        applied: whether the changes were made.
        changes: in the order they are made; empty when everything is as it should be.
        notes: sentences for the user.
        first: commands that are due before the change.
        next: commands that make the change effective.
    """

    applied: bool
    changes: list[Change]
    notes: list[str]
    first: list[str]
    next: list[str]


@click.command()
@click.option("--uninstall", is_flag=True, help="Undo what install did; edited files are kept.")
@click.option("--dry-run", is_flag=True, help="Show the changes and make none.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print a report as JSON, no diff.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default="/",
    show_default=True,
    help="Write below this directory: for images that are being built.",
)
@click.option(
    "--containerd-config",
    type=click.Path(path_type=PurePosixPath),
    default="/etc/containerd/config.toml",
    show_default=True,
    help="containerd's configuration file.",
)
@click.option(
    "--containerd-version",
    metavar="X.Y",
    help="Write for this version.  [default: that of the installed one]",
)
@click.option(
    "--bin-dir",
    type=click.Path(path_type=PurePosixPath),
    help="Where the units find thinfs and thin-snapshotter.  [default: where this one is]",
)
def command(
    *,
    uninstall: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    root: Path,
    containerd_config: PurePosixPath,
    containerd_version: str | None,
    bin_dir: PurePosixPath | None,
) -> None:
    """Register thinfs with containerd and systemd.

    Shows a diff, asks, then writes: the snapshotter's entry in containerd's configuration, units
    for the daemon and the snapshotter, and /etc/thinfs/config.toml with every field explained.
    A second run changes nothing. Nothing is started or restarted; the commands for that are
    printed at the end.
    """
    if os.geteuid() != 0:
        raise UsageError("run `thinfs install` as root: what it writes belongs to root")
    if not containerd_config.is_absolute():
        raise UsageError(f"--containerd-config {containerd_config}: give an absolute path")
    machine = Machine(root)
    layout = Layout(containerd_config, bin_dir or _own_directory())
    files = machine.read(layout.files())
    if uninstall:
        made = plan_uninstall(layout, files)
    else:
        defaults = config_text.render(Config())
        made = plan_install(layout, files, _version(containerd_version), defaults)
        made = replace(made, notes=(*made.notes, *_missing_commands(machine, layout)))
    report = _report(made, layout, applied=bool(made.steps) and not dry_run, uninstall=uninstall)
    if not as_json:
        _show(made, report)
    if report.applied:
        _confirm(yes=yes, as_json=as_json)
        touched = {step.path for step in made.steps} & {layout.drop_in, layout.containerd_config}
        checks = touched and not uninstall and _can_check(containerd_version)
        machine.apply(made, layout.containerd_config, probe.require_accepted if checks else None)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        _conclude(report)


def _missing_commands(machine: Machine, layout: Layout) -> Iterator[str]:
    for name in COMMANDS:
        if not machine.exists(layout.bin_directory / name):
            yield f"{layout.bin_directory / name} is not there yet; the units start it"


def _version(text: str | None) -> Version | None:
    return parse_version(text) if text else probe.installed_version()


def _can_check(asked: str | None) -> bool:
    """Whether the containerd of this machine is of the version that is written for."""
    here = probe.installed_version()
    return here is not None and (asked is None or parse_version(asked) == here)


def _own_directory() -> PurePosixPath:
    """Where this command is, as far as it can tell: beside the interpreter, or on PATH."""
    beside = Path(sys.executable).parent
    found = beside / "thinfs" if (beside / "thinfs").exists() else shutil.which("thinfs")
    if found is None:
        raise UsageError("cannot tell where the command thinfs is; give --bin-dir")
    return PurePosixPath(Path(found).parent)


def _confirm(*, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise UsageError("there is nobody to ask: add --yes, or --dry-run to see the changes only")
    click.confirm("Make these changes?", abort=True, err=True)


def _show(made: Plan, report: Report) -> None:
    for line in diff.unified(made):
        click.secho(line, fg=COLOURS.get(line[:1]))
    for note in report.notes:
        print(f"note: {note}")
    for each in report.first:
        print(f"first, if the services are there: {each}")


def _report(made: Plan, layout: Layout, *, applied: bool, uninstall: bool) -> Report:
    changes = [Change(str(step.path), _action(step.before, step.after)) for step in made.steps]
    touched = {step.path for step in made.steps}
    return Report(
        applied=applied,
        changes=changes,
        notes=list(made.notes),
        first=[f"systemctl disable --now {SNAPSHOTTER} {DAEMON}"] if uninstall and touched else [],
        next=list(_next(touched, layout, uninstall=uninstall)),
    )


def _action(before: bytes | None, after: bytes | None) -> str:
    if before is None:
        return "create"
    return "remove" if after is None else "update"


def _next(touched: set[PurePosixPath], layout: Layout, *, uninstall: bool) -> Iterator[str]:
    if touched & {UNITS / DAEMON, UNITS / SNAPSHOTTER}:
        yield "systemctl daemon-reload"
        if not uninstall:
            yield f"systemctl enable --now {DAEMON} {SNAPSHOTTER}"
    if touched & {layout.drop_in, layout.containerd_config}:
        yield "systemctl restart containerd"


def _conclude(report: Report) -> None:
    if not report.changes:
        print("Nothing to change.")
        return
    if not report.applied:
        print("Nothing was changed (--dry-run).")
        return
    print("Done. To make it effective:" if report.next else "Done.")
    for each in report.next:
        print(f"  {each}")
