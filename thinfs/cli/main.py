"""``thinfs``: the frame that all verbs share.

A verb is a module of this package with a click command called ``command``. It is imported when
it is used, or when its own help is asked for, so that ``thinfs --help`` answers at once.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

import thinfs
from thinfs import config as configuration
from thinfs import logs
from thinfs.cli.text import printable
from thinfs.errors import ThinfsError

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells count."""

VERBS: Final = {
    "bench": "Measure how long a container takes to be ready.",
    "cache": "Look after what this node keeps: pins, room, damage.",
    "check": "Check a repository: every reference, and every hash.",
    "compare": "Compare two images: what do they share?",
    "config": "Show the configuration that is in effect.",
    "convert": "Convert an image so that containers start before it has arrived.",
    "daemon": "Serve all roots of this node.",
    "gc": "Remove what no image of a repository needs.",
    "inspect": "Show what is in an image, and what of it is used.",
    "install": "Set up containerd and systemd for thinfs.",
    "load": "Put images that were saved into a repository.",
    "mount": "Mount an image's root lazily.",
    "profile": "Show, merge and apply what containers touch at their start.",
    "rm": "Take the names of images away from a repository.",
    "save": "Write images with all that they need into one file.",
    "serve": "Serve a repository over HTTP.",
    "status": "Show what the daemon serves.",
    "umount": "Unmount what mount has mounted.",
    "warm": "Bring images to this node before they are needed.",
}
"""Verb → the line in ``thinfs --help``, so that listing them imports none."""

_EXAMPLES: Final = """
\b
Examples:
  thinfs convert redis:4
  thinfs mount redis:4-thin /mnt/redis
  thinfs status
  thinfs config show
"""


class _Verbs(click.Group):
    """Finds verbs without importing those that are not used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - as click calls it
        if name not in VERBS:
            return None
        command = importlib.import_module(f"thinfs.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as click calls it
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))


@click.group(
    cls=_Verbs,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(thinfs.__version__, prog_name="thinfs")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file.  [default: see thinfs config path]",
)
@click.option("-v", "--verbose", count=True, help="Log more: -v what happens, -vv everything.")
@click.pass_context
def group(ctx: click.Context, config_file: Path | None, verbose: int) -> None:
    """Containers that start before their image has arrived."""
    logs.configure(("WARNING", "INFO", "DEBUG")[min(verbose, 2)])
    if config_file is not None:
        # Verbs that start processes, and the processes, find the same file.
        os.environ["THINFS_CONFIG"] = str(config_file.absolute())
    ctx.obj = configuration.load(config_file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code.

    Errors of ``thinfs.errors`` become one line on stderr and the class' exit code.
    """
    try:
        code = group.main(
            args=None if arguments is None else list(arguments),
            prog_name="thinfs",
            standalone_mode=False,
        )
        return code if isinstance(code, int) else 0  # what a verb gave to click's Exit
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except ThinfsError as error:
        click.echo(f"thinfs: {printable(str(error))}", err=True)
        logging.getLogger(__name__).debug("where it happened:", exc_info=True)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough (`thinfs config show | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
