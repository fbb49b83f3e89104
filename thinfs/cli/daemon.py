"""``thinfs daemon``: the processes that serve all roots of a node."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from thinfs import logs
from thinfs.errors import StoreError
from thinfs.supervisor.run import How, run

if TYPE_CHECKING:
    from thinfs.config import Config
    from thinfs.control.values import Status

RELOAD_S: Final = 120.0
"""Longest wait for a new worker."""

_ASK_EVERY_S: Final = 0.1

_EXAMPLES = """
\b
Examples:
  thinfs daemon
  thinfs --config ./thinfs.toml -vv daemon
  thinfs daemon reload
"""


@click.group(epilog=_EXAMPLES, invoke_without_command=True)
@click.option(
    "--keep-mount",
    is_flag=True,
    help="On SIGTERM leave the mount to the next start, for which the service manager keeps it.",
)
@click.pass_context
def command(ctx: click.Context, *, keep_mount: bool) -> None:
    """Serve all roots of this node, in the foreground.

    One FUSE mount holds the roots of all images; the snapshotter asks for them over the control
    socket. A supervisor keeps the mount and starts a worker, which serves it; when the worker
    ends or hangs, another one takes over and readers wait for it.

    SIGTERM or Ctrl-C unmounts and ends; what was attached is attached again at the next start.
    SIGHUP replaces the worker. Under systemd the daemon says when it is ready (Type=notify).
    """
    if ctx.invoked_subcommand is not None:
        return
    config: Config = ctx.obj
    asked = ctx.parent.params.get("verbose", 0) if ctx.parent is not None else 0
    log_level = ("", "INFO", "DEBUG")[min(asked, 2)]
    logs.configure(log_level or config.daemon.log_level)
    run(config, How(log_level=log_level, keep_mount=keep_mount))


@command.command("reload", help="Replace the running worker: new program, new configuration.")
@click.pass_obj
def reload(config: Config) -> None:
    """Have a new worker take over the mount, and wait until it has."""
    before = _status(config)
    try:
        os.kill(before.pid, signal.SIGHUP)
    except OSError as error:
        raise StoreError(f"process {before.pid}, the daemon: {error.strerror}") from error
    after = _after(config, before)
    click.echo(
        f"worker {after.worker.number} (process {after.worker.pid}, thinfs {after.version})"
        f" has taken over from worker {before.worker.number}"
    )


def _after(config: Config, before: Status) -> Status:
    """The status once another worker serves; raises when reloading has failed."""
    deadline = time.monotonic() + RELOAD_S
    while time.monotonic() < deadline:
        time.sleep(_ASK_EVERY_S)
        status = _status(config)
        if status.worker.pid != before.worker.pid:
            return status
        if status.worker.reloads_failed != before.worker.reloads_failed:
            raise StoreError(f"the old worker goes on; the new one: {status.worker.reload_error}")
    raise StoreError(f"no other worker serves after {RELOAD_S:g} s: see the daemon's log")


def _status(config: Config) -> Status:
    # Imported here, for the supervisor needs no HTTP.
    from thinfs.control.client import ControlClient  # noqa: PLC0415 - see above

    with ControlClient(Path(config.daemon.socket), timeout_s=RELOAD_S) as client:
        return client.status()
