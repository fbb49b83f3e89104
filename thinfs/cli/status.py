"""``thinfs status``: what the daemon serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thinfs.cli.text import printable
from thinfs.control.client import ControlClient

if TYPE_CHECKING:
    from thinfs.config import Config
    from thinfs.control.values import CircuitStatus, Root, Status, WorkerStatus

TIMEOUT_S = 10.0

_EXAMPLES = """
\b
Examples:
  thinfs status
  thinfs status --json | jq .cache.used_bytes
"""


@click.command(epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def command(config: Config, *, as_json: bool) -> None:
    """Show the daemon, its roots, its cache, and what came over the network."""
    with ControlClient(Path(config.daemon.socket), timeout_s=TIMEOUT_S) as client:
        status = client.status()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(status), indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(figures(status))
    console.print(roots(status.roots) if status.roots else "no roots attached", markup=False)


def figures(status: Status) -> Table:
    """The daemon's figures, one a row."""
    cache, fetch = status.cache, status.fetch
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    rows = (
        ("daemon", f"thinfs {status.version}, process {status.pid}, up {ago(status.uptime_s)}"),
        ("worker", serving(status.worker)),
        *((("last end", status.worker.last_end),) if status.worker.last_end else ()),
        *((("reload", f"failed: {status.worker.reload_error}"),) if failed_reload(status) else ()),
        ("mountpoint", status.mountpoint),
        ("roots", f"{status.root_mode}: {status.root_mode_reason}"),
        ("cache", f"{size(cache.used_bytes)} of {size(cache.max_bytes)} in {cache.path}"),
        ("", f"{cache.contents} files, {cache.hits} hits, {cache.misses} misses"),
        ("fetched", f"{size(fetch.bytes)} in {fetch.requests} requests"),
        ("failures", f"{fetch.errors} attempts, {fetch.integrity_errors} with damaged bytes"),
        *((circuit.kind, answering(circuit)) for circuit in fetch.circuits),
        ("waiting", f"{fetch.waiting} reads, the oldest for {fetch.oldest_wait_s:.1f} s"),
        ("fuse", asked(status)),
    )
    for name, text in rows:
        table.add_row(name, Text(printable(text)))
    return table


def serving(worker: WorkerStatus) -> str:
    """Which worker serves, and how many have not lived to be replaced in order."""
    alone = "" if worker.supervised else ", without supervisor: start the daemon again"
    return (
        f"number {worker.number}, process {worker.pid}, up {ago(worker.uptime_s)},"
        f" {worker.restarts} restarts{alone}"
    )


def failed_reload(status: Status) -> bool:
    """Whether a reload has failed since the daemon started."""
    return status.worker.reloads_failed > 0


def asked(status: Status) -> str:
    """What the kernel has asked, and what it waits for."""
    return (
        f"{sum(status.fuse_requests.values())} requests, {status.fuse_underway} being answered,"
        f" the oldest for {status.fuse_oldest_s:.1f} s"
    )


def answering(circuit: CircuitStatus) -> str:
    """Whether a repository or proxy answers, and if not since when and why."""
    if circuit.ok:
        return f"{circuit.address} answers"
    again = f"preferred again in {ago(circuit.next_try_s)}" if circuit.next_try_s else "to be tried"
    since = ago(circuit.failed_for_s)
    return f"{circuit.address} does not answer since {since} ({again}): {circuit.error}"


def roots(attached: list[Root]) -> Table:
    """What is attached, one root a row."""
    table = Table("ROOT", "IMAGE", "MODE", "HOLDERS", box=None, padding=(0, 2, 0, 0))
    for root in attached:
        table.add_row(root.id, Text(printable(root.origin)), root.mode, str(len(root.holders)))
    return table


def size(count: float) -> str:
    """Bytes for people: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def ago(seconds: float) -> str:
    """A duration for people: ``3 h 5 min``."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
