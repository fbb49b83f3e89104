"""The daemon as the snapshotter uses it: patient when asking for a root, brisk when giving up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from thinfs.control.client import ControlClient

if TYPE_CHECKING:
    from pathlib import Path

    from thinfs.control.values import Root

EXPECT_TIMEOUT_S = 2.0
DETACH_TIMEOUT_S = 10.0
"""containerd's garbage collection waits for a clean-up; one that fails is tried again."""


class Daemon:
    """Roots from the daemon of this node; a context manager, for any number of threads.

    While the daemon's worker is replaced, callers wait: the control socket takes connections all
    the time, and a request whose worker was killed is made again.

    Args:
        socket: the daemon's control socket; nobody need listen there yet.
    """

    def __init__(self, socket: Path) -> None:
        self._patient = ControlClient(socket)
        self._brisk = ControlClient(socket, timeout_s=DETACH_TIMEOUT_S)
        self._hasty = ControlClient(socket, timeout_s=EXPECT_TIMEOUT_S)

    def attach(self, holder: str, recipe: str) -> Root:
        """Make a root be there until its holder gives it up; waits for its catalog.

        Raises:
            ThinfsError: the daemon is out of reach, or it refuses or fails.
        """
        return self._patient.attach(holder, recipe)

    def expect(self, recipe: str) -> None:
        """Say that a root will probably be wanted in a moment.

        Raises:
            ThinfsError: the daemon is out of reach, or it refuses.
        """
        self._hasty.expect(recipe)

    def detach(self, holder: str) -> None:
        """Give up what a holder has; an unknown holder is no error.

        Raises:
            ThinfsError: the daemon is out of reach or fails.
        """
        self._brisk.detach(holder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._patient.close()
        self._brisk.close()
        self._hasty.close()
