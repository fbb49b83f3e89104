"""Serving a mount that another process made and keeps.

libfuse wants to open the device and to answer the kernel's first request, FUSE_INIT, itself. A
worker that takes over a mount has neither: the device is open since the mount was made, and the
kernel has its answer. So libfuse is first given one end of a socket pair, which has the device's
way with messages; it is told FUSE_INIT as it was kept, and its answer is taken from the other
end. Then the device is put where libfuse has its end of the pair.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyfuse3
import trio

from thinfs.errors import StoreError
from thinfs.fs.adapter import Adapter
from thinfs.fs.mounting import Serving, first_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from thinfs.fs.filesystem import FileSystem

log = logging.getLogger(__name__)

NEGOTIATION_S: Final = 10.0
"""libfuse answers FUSE_INIT at once, or not at all."""

_MESSAGE_BYTES: Final = 4 << 20
"""Room in the socket pair: libfuse reads into a buffer of more than 1 MiB."""


@dataclass(frozen=True, slots=True)
class Session:
    """A FUSE session that has everything but its device.

    Attributes:
        adapter: answers requests.
        answer: libfuse's answer to FUSE_INIT, as the kernel wants it.
        place: the descriptor from which libfuse reads.
    """

    adapter: Adapter
    answer: bytes
    place: int


@asynccontextmanager
async def negotiated(filesystem: FileSystem, init: bytes) -> AsyncIterator[Session]:
    """A session for a mount whose FUSE_INIT is known, for the block. One a process at a time.

    Args:
        filesystem: what to serve; closed at the end.
        init: the kernel's request, as read from the device.

    Raises:
        StoreError: libfuse does not answer it.
    """
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MESSAGE_BYTES)
    near.setblocking(False)
    adapter = Adapter(filesystem)
    place = far.detach()  # libfuse closes it
    with near:
        pyfuse3.init(adapter, f"/dev/fd/{place}", set())
        try:
            yield Session(adapter, await _negotiate(near, place, init), place)
        finally:
            pyfuse3.close(unmount=False)
            filesystem.close()


@asynccontextmanager
async def served(session: Session, device: int, mountpoint: Path) -> AsyncIterator[Serving]:
    """Answer what the kernel asks of a mount, for the block. Nobody else may read the device.

    The mount stays: unmounting it is its keeper's business.

    Args:
        session: not used before.
        device: descriptor of /dev/fuse; not owned.
        mountpoint: absolute, without symbolic links.
    """
    os.dup2(device, session.place, inheritable=False)
    async with trio.open_nursery() as nursery:
        serving = Serving(mountpoint, session.adapter)
        nursery.start_soon(serving.run)
        await first_answer(mountpoint)
        log.info("serving %s", mountpoint)
        yield serving
        nursery.cancel_scope.cancel()


async def _negotiate(near: socket.socket, place: int, init: bytes) -> bytes:
    """Let libfuse answer FUSE_INIT, and stop reading where it has heard it."""
    answer = b""
    with trio.move_on_after(NEGOTIATION_S):
        async with trio.open_nursery() as nursery:
            ended = trio.Event()
            nursery.start_soon(_one_reader, ended)
            near.send(init)
            await trio.lowlevel.wait_readable(near)
            answer = near.recv(_MESSAGE_BYTES)
            while not ended.is_set():
                trio.lowlevel.notify_closing(place)
                await trio.lowlevel.checkpoint()
    if not answer:
        raise StoreError("libfuse does not answer FUSE_INIT")
    return answer


async def _one_reader(ended: trio.Event) -> None:
    """One task: a second one would go on reading when the first is told to stop."""
    await pyfuse3.main(min_tasks=1, max_tasks=1)
    ended.set()
