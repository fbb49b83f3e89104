"""``thinfs daemon``: the process that serves all roots of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from thinfs import logs
from thinfs.daemon import daemon

if TYPE_CHECKING:
    from thinfs.config import Config

_EXAMPLES = """
\b
Examples:
  thinfs daemon
  thinfs --config ./thinfs.toml -vv daemon
"""


@click.command(epilog=_EXAMPLES)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Serve all roots of this node, in the foreground.

    One FUSE mount holds the roots of all images; the snapshotter asks for them over the control
    socket. SIGTERM or Ctrl-C unmounts and ends; what was attached is attached again at the next
    start. Under systemd the daemon says when it is ready (Type=notify).
    """
    config: Config = ctx.obj
    parent = ctx.parent
    if parent is None or not parent.params.get("verbose"):
        logs.configure(config.daemon.log_level)
    daemon.run(config)
