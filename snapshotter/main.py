"""The command ``thin-snapshotter``."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

import click

from snapshotter import server
from snapshotter.daemon import Daemon
from snapshotter.model import SnapshotError
from thinfs import logs
from thinfs.errors import StoreError, ThinfsError

log = logging.getLogger(__name__)

LEVELS = click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False)


def _failure(error: ThinfsError) -> click.ClickException:
    """Give one line for the user, with the exit code of its cause."""
    failure = click.ClickException(str(error))
    failure.exit_code = error.exit_code  # type: ignore[misc] # click reads it from the instance
    return failure


@click.command(context_settings={"auto_envvar_prefix": "THIN_SNAPSHOTTER", "show_default": True})
@click.option(
    "--address",
    type=click.Path(path_type=Path),
    default="/run/thinfs/snapshotter.sock",
    help="Unix socket on which containerd finds this snapshotter.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default="/var/lib/thinfs/snapshotter",
    help="Directory that holds the snapshots; must be on a file system fit for an upperdir.",
)
@click.option(
    "--daemon",
    type=click.Path(path_type=Path),
    default="/run/thinfs/daemon.sock",
    help="Control socket of `thinfs daemon`, which provides the roots of thin images.",
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=30.0,
    help="Seconds that calls under way may take at the end.",
)
@click.option("--log-level", type=LEVELS, default="INFO", help="How much to log on stderr.")
def main(address: Path, root: Path, daemon: Path, drain: float, log_level: str) -> None:
    """Be a containerd snapshotter: ordinary images as overlayfs, thin images lazily."""
    logs.configure(log_level.upper())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        with (
            Daemon(daemon) as roots,
            server.opened(root, roots) as snapshotter,
            server.serving(snapshotter, address, drain_s=drain),
        ):
            notify("READY=1")
            stop.wait()
            notify("STOPPING=1")
    except ThinfsError as error:
        raise _failure(error) from error
    except (SnapshotError, sqlite3.Error) as error:
        raise _failure(StoreError(f"{root}: {error}")) from error


def notify(state: str) -> None:
    """Tell the service manager, if one started us, how we are (sd_notify(3))."""
    target = os.environ.get("NOTIFY_SOCKET")
    if not target:
        return
    # A name that begins with @ is in the abstract namespace, written with a NUL byte.
    address = "\0" + target[1:] if target.startswith("@") else target
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, suppress(OSError):
        channel.sendto(state.encode(), address)


if __name__ == "__main__":
    main()
