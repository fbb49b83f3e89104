"""``thinfs umount``: the end of a plain mount."""

from __future__ import annotations

import os
from pathlib import Path

import click

from thinfs.fs.mountpoint import unmount

_EXAMPLES = """
\b
Examples:
  thinfs umount /mnt/redis
"""


@click.command(epilog=_EXAMPLES)
@click.argument("directory", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Unmount what thinfs mount has mounted at DIRECTORY.

    The process that serves it ends. Programs that have files open there get errors when they
    read on. A dead mount, left by a killed process, is taken away as well.
    """
    unmount(Path(os.path.abspath(directory)))  # noqa: PTH100 - resolve() would ask the mount itself
