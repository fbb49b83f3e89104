"""A worker as a process: started with one end of a channel, which closes when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from thinfs.errors import StoreError
from thinfs.supervisor.messages import Channel, pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.supervisor.messages import Order


class WorkerProcess:
    """A child of this process; implements :class:`thinfs.supervisor.supervisor.Hand`.

    Attributes:
        channel: to it; hears :class:`~thinfs.supervisor.messages.Closed` when it has ended.
    """

    def __init__(self, popen: subprocess.Popen[bytes], channel: Channel) -> None:
        self._popen = popen
        self.channel = channel

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def tell(self, order: Order, /) -> bool:
        """Say something to it."""
        return self.channel.tell(order)

    def kill(self) -> None:
        """End it at once."""
        self._popen.kill()

    def reap(self) -> str:
        """Its channel is closed, so it is ending: how, for a person. It is gone after."""
        code = self._popen.wait()
        self.channel.close()
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


class Adopted:
    """A worker that somebody else has started; as :class:`WorkerProcess`."""

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid = pid
        self.channel = channel

    def tell(self, order: Order, /) -> bool:
        """Say something to it."""
        return self.channel.tell(order)

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> str:
        """Its channel is closed; only its parent, whoever that is, hears how it ended."""
        self.channel.close()
        return "ended"


def start(command: Sequence[str], keep: Sequence[int] = ()) -> WorkerProcess:
    """Start a worker.

    Args:
        command: to which the number of its channel's descriptor is added.
        keep: descriptors that it is to have beside its channel.

    Raises:
        StoreError: it cannot be started.
    """
    ours, theirs = pair()
    number = theirs.fileno()
    with theirs:
        try:
            popen = subprocess.Popen(
                [*command, str(number)],
                stdin=subprocess.DEVNULL,
                pass_fds=(number, *keep),
                # A terminal's Ctrl-C is for the supervisor, which ends its worker in order.
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise StoreError(f"a worker cannot be started: {error}") from error
    return WorkerProcess(popen, Channel(ours))
