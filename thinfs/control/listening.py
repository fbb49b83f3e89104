"""The control socket: made by one process, served by another."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from thinfs.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


WAITING: Final = 1024
"""Clients that may wait while no worker takes their connections."""


def listen_unix(path: Path) -> socket.socket:
    """Listen on a unix socket that only this user may connect to.

    The permission bits are there from the first moment: Linux makes the file with those of the
    unbound socket. A socket that nobody listens on any more is replaced.

    Raises:
        StoreError: somebody listens there, or the path cannot be used.
    """
    if _somebody_listens(path):
        raise StoreError(f"somebody listens on {path} already: is another daemon running?")
    listening = socket.socket(socket.AF_UNIX)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(str(path))
        listening.listen(WAITING)
    except OSError as error:
        listening.close()
        raise StoreError(f"cannot listen on {path}: {error.strerror or error}") from error
    return listening


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
