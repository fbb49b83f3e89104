"""Serving a file system with pyfuse3 at a mount of this process's own."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import pyfuse3
import trio

from thinfs.errors import StoreError
from thinfs.fs import mountinfo
from thinfs.fs.adapter import Adapter
from thinfs.fs.mountpoint import check_device, options_here, prepare_mountpoint
from thinfs.fs.tuning import tune

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from typing import IO

    from thinfs.fs.filesystem import FileSystem
    from thinfs.fs.mountpoint import MountOptions

log = logging.getLogger(__name__)

IDLE_TASKS: Final = 8
MAX_TASKS: Final = 1024
"""Requests answered at once. Reads that wait for the network take one each, and must not keep
names and warm files waiting; a waiting task costs a few KiB."""


@asynccontextmanager
async def mounted(
    filesystem: FileSystem, mountpoint: Path, options: MountOptions
) -> AsyncIterator[Serving]:
    """Serve a file system at ``mountpoint`` for the block; it is unmounted lazily at the end.

    A dead mount left there by a killed process is taken away first. One file system a
    process: pyfuse3 keeps its state in globals.

    Args:
        filesystem: what to serve.
        mountpoint: an empty or covered directory.
        options: how.

    Raises:
        MissingError: the directory does not exist.
        UsageError: it is no directory, or something of ours is mounted there and alive.
        StoreError: the kernel or fusermount3 refuses.
    """
    mountpoint = await trio.to_thread.run_sync(prepare_mountpoint, mountpoint)
    adapter = Adapter(filesystem)
    _init(adapter, mountpoint, options)
    try:
        async with trio.open_nursery() as nursery:
            serving = Serving(mountpoint, adapter)
            nursery.start_soon(serving.run)
            await first_answer(mountpoint)
            tune(mountinfo.at(mountpoint)[-1].device, options.read_ahead_kib)
            log.info("serving %s", mountpoint)
            yield serving
            nursery.cancel_scope.cancel()
    finally:
        # Lazily, in the kernel: nothing here asks the file system, which answers no more.
        pyfuse3.close(unmount=True)
        filesystem.close()
        log.info("unmounted %s", mountpoint)


class Serving:
    """A mount that is being served.

    Attributes:
        mountpoint: where; absolute, without symbolic links.
        adapter: its counters.
        ended: set when somebody has unmounted it, or the kernel ended it.
    """

    def __init__(self, mountpoint: Path, adapter: Adapter) -> None:
        self.mountpoint = mountpoint
        self.adapter = adapter
        self.ended = trio.Event()
        self._left = trio.Event()
        self._leaving = False

    async def run(self) -> None:
        """Answer requests until the mount is gone, :meth:`leave`, or the caller is cancelled."""
        await pyfuse3.main(min_tasks=IDLE_TASKS, max_tasks=MAX_TASKS)
        (self._left if self._leaving else self.ended).set()

    async def leave(self, grace_s: float) -> bool:
        """Take no more requests from the kernel, and answer those that were taken.

        Args:
            grace_s: how long that may last.

        Returns:
            Whether all are answered. The kernel still waits for the others: cancel
            :meth:`run` before somebody else is asked to answer them.
        """
        self._leaving = True
        pyfuse3.terminate()
        with trio.move_on_after(grace_s):
            await self._left.wait()
        return self._left.is_set()


def _init(adapter: Adapter, mountpoint: Path, options: MountOptions) -> None:
    check_device()
    text = options_here(options)
    with tempfile.TemporaryFile() as said:
        try:
            with _stderr_into(said):
                pyfuse3.init(adapter, str(mountpoint), text)
        except RuntimeError as error:
            said.seek(0)
            why = " ".join(said.read().decode(errors="replace").split()) or str(error)
            raise StoreError(f"cannot mount at {mountpoint}: {why}") from error


@contextmanager
def _stderr_into(file: IO[bytes]) -> Iterator[None]:
    """Catch what libfuse and fusermount3 write to descriptor 2: they give reasons only there."""
    sys.stderr.flush()
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


async def first_answer(mountpoint: Path) -> None:
    """Wait until the mount answers. In a thread: this process is who answers."""
    await trio.to_thread.run_sync(os.statvfs, mountpoint, abandon_on_cancel=True)
