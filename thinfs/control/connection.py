"""Requests to the daemon's unix socket, over connections that are kept.

A container's start waits for some of these, so they are as cheap as they can be: the standard
library's client takes a third of the time of a full HTTP client, and nothing is asked twice.
"""

from __future__ import annotations

import http.client
import logging
import select
import socket
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from thinfs.errors import TransportError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

AGAIN: Final = 5
"""How often a request is repeated whose connection breaks. An idle one is closed at the daemon's
end, perhaps at this very moment; or the worker was killed, and the next one has its socket."""

_BROKEN: Final = (ConnectionError, http.client.IncompleteRead)
_JSON: Final = {"Content-Type": "application/json"}


class Connections:
    """Idle connections to one unix socket; any number of threads may ask at once.

    Args:
        path: of the socket.
        timeout_s: longest silence.
    """

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._idle: SimpleQueue[_Connection] = SimpleQueue()

    def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request that may be repeated, and wait for the answer: its status and body.

        Raises:
            UsageError: the socket is somebody else's.
            TransportError: nobody listens, or the answer does not come.
        """
        try:
            for _ in range(AGAIN):
                try:
                    return self._ask(method, target, body)
                except _BROKEN as error:
                    log.debug("asking again: %r", error)
            return self._ask(method, target, body)
        except (OSError, http.client.HTTPException) as error:
            detail = str(error) or type(error).__name__
            raise TransportError(f"daemon at {self._path}: {detail}") from error

    def close(self) -> None:
        """Close what is idle."""
        while (connection := self._next_idle()) is not None:
            connection.close()

    def _ask(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            answer = connection.ask(method, target, body)
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        return answer

    def _connection(self) -> _Connection:
        while (connection := self._next_idle()) is not None:
            if connection.is_open():
                return connection
            connection.close()
        return self._connected()

    def _next_idle(self) -> _Connection | None:
        try:
            return self._idle.get_nowait()
        except Empty:
            return None

    def _connected(self) -> _Connection:
        connection = _Connection(self._path, self._timeout_s)
        try:
            connection.connect()
        except PermissionError as error:
            raise UsageError(f"{self._path} is not yours: run this as the daemon's user") from error
        except OSError as error:
            raise TransportError(
                f"the thinfs daemon is not running at {self._path}: start it with thinfs daemon"
            ) from error
        return connection


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("thinfs", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the unix socket."""
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(self.timeout)
            made.connect(str(self._path))
        except BaseException:
            made.close()
            raise
        self.sock = made

    def is_open(self) -> bool:
        """Whether the daemon has not closed it: nothing else can be there to read."""
        if self.sock is None:  # the last answer announced it
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def ask(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """One request and its whole answer."""
        self.request(method, target, body or None, _JSON if body else {})
        with self.getresponse() as response:
            return response.status, response.read()
