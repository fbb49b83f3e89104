"""Speaking to the service manager: sd_notify(3) without a library."""

from __future__ import annotations

import array
import logging
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)


def notify(state: str, descriptors: Sequence[int] = ()) -> None:
    """Send ``READY=1``, ``STOPPING=1`` …; nothing happens when nobody asked for it.

    Args:
        state: lines of ``NAME=value``.
        descriptors: for the manager to keep, with ``FDSTORE=1``.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(address)
            sender.sendmsg([state.encode()], rights if descriptors else [])
    except OSError as error:
        log.warning("the service manager cannot be told %s: %s", state, error.strerror)


def watchdog_s() -> float | None:
    """How often the service manager wants a sign of life, with room to spare; ``None``: never."""
    text = os.environ.get("WATCHDOG_USEC", "")
    mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(text) / 3_000_000 if mine and text.isdecimal() and int(text) else None
