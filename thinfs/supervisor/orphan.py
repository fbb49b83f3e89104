"""A worker whose supervisor was killed goes on serving, and waits for an heir.

It listens beside the control socket. The next supervisor gets everything from it: the mount, the
control socket, the locks, and itself, as the worker that serves.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thinfs.errors import StoreError
from thinfs.supervisor.messages import Channel, Closed, Estate

if TYPE_CHECKING:
    from pathlib import Path

    from thinfs.supervisor.messages import Handover

ANSWER_S: Final = 5.0
"""How long an orphan may take to hand over what it has."""

_OTHERS: Final = 2  # device and control socket come before the locks


@dataclass(frozen=True, slots=True)
class Claimed:
    """What an orphan has handed over.

    Attributes:
        pid: its process.
        channel: to it.
        handover: what its supervisor had given it.
        numbers: major and minor number of its mount.
        device: descriptor of /dev/fuse.
        listening: the control socket.
        locks: descriptors of the locks.
    """

    pid: int
    channel: Channel
    handover: Handover
    numbers: tuple[int, int]
    device: int
    listening: socket.socket
    locks: tuple[int, ...]


def place(control: Path) -> Path:
    """Where an orphan listens."""
    return control.with_name(f"{control.name}.heir")


def listen(control: Path) -> socket.socket:
    """Listen for an heir; only this user's. The caller removes :func:`place` at the end.

    Raises:
        OSError: it is not possible there.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        place(control).unlink(missing_ok=True)
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(str(place(control)))
        listening.listen(1)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def claim(control: Path) -> Claimed | None:
    """Become the heir of an orphan, if there is one.

    Raises:
        StoreError: there is one, and it does not hand over what it has.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        end.connect(str(place(control)))
    except OSError:
        end.close()
        with suppress(FileNotFoundError):
            place(control).unlink()
        return None
    channel = Channel(end)
    readable, _, _ = select.select([channel], [], [], ANSWER_S)
    try:
        estate, descriptors = channel.hear_word() if readable else (None, [])
    except (Closed, BlockingIOError):
        estate, descriptors = None, []
    if not isinstance(estate, Estate) or len(descriptors) < _OTHERS:
        raise StoreError(f"a worker without supervisor does not answer at {place(control)}: end it")
    device, listening, *locks = descriptors
    return Claimed(
        pid=estate.pid,
        channel=channel,
        handover=estate.handover,
        numbers=estate.numbers,
        device=device,
        listening=socket.socket(fileno=listening),
        locks=tuple(locks),
    )
