"""One image's root as a plain mount: its own process, no daemon, no containerd."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from thinfs.config import Config  # noqa: TC001 - msgspec reads the annotation
from thinfs.daemon.node import open_node
from thinfs.fs.filesystem import FileSystem
from thinfs.fs.mounting import mounted
from thinfs.fs.mountpoint import MountOptions
from thinfs.fs.tuning import read_ahead
from thinfs.oci.recipe import parse_recipe

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class MountJob(msgspec.Struct, frozen=True):
    """What to mount where.

    Attributes:
        recipe: the text of ``thin.json``.
        mountpoint: absolute path of a directory.
        config: as it is in effect.
    """

    recipe: str
    mountpoint: str
    config: Config


def run(job: MountJob, ready: Callable[[], None]) -> None:
    """Serve a root until it is unmounted, or SIGTERM, SIGINT or SIGHUP arrives.

    Args:
        job: what to serve.
        ready: called once, when the mount answers.

    Raises:
        ThinfsError: it could not be mounted.
    """
    try:
        trio.run(_serve, job, ready)
    except BaseExceptionGroup as group:
        raise the_one_error(group) from group


def the_one_error(group: BaseExceptionGroup) -> BaseException:
    """What ended a nursery, when it was one thing; otherwise the group itself."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def until_signal(
    cancel: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Cancel a scope, entered or not, when the process is told to stop."""
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        task_status.started()
        async for number in signals:
            log.info("%s: stopping", signal.Signals(number).name)
            cancel.cancel()


async def _serve(job: MountJob, ready: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(until_signal, nursery.cancel_scope)
        async with open_node(job.config) as node:
            root = await node.openers(False).open(parse_recipe(job.recipe.encode()))
            assert root is not None
            filesystem = FileSystem(node.served(root, await root.contents.catalog()))
            ahead_kib = read_ahead(job.config.daemon.read_ahead_kib, native=False)
            options = MountOptions(read_ahead_kib=ahead_kib)
            async with mounted(filesystem, Path(job.mountpoint), options) as serving:
                ready()
                await serving.ended.wait()
            nursery.cancel_scope.cancel()
