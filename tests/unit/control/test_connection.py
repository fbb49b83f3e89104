"""Requests over connections that are kept, and closed by the daemon at any moment."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from thinfs.control.connection import AGAIN, Connections
from thinfs.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WAIT_S = 10.0
LAST = ANSWER.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


class Server:
    """Connections by script, one word each: ``a`` answers a request, ``l`` says it is the last,
    ``w`` answers one when another connection is there, ``r`` gives no answer, ``s`` is silent
    until the end. Then it closes.

    Attributes:
        requests: what was asked, by connection.
    """

    def __init__(self, path: Path, *script: str) -> None:
        self.requests: list[int] = []
        self.closed = threading.Semaphore(0)
        self.stop = threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, args=(script,))
        self._thread.start()

    def join(self) -> None:
        self.stop.set()
        self._thread.join()
        self._listening.close()

    def _serve(self, script: tuple[str, ...]) -> None:
        for word in script:
            connection, _ = self._listening.accept()
            self.requests.append(0)
            with connection:
                for letter in word:
                    assert connection.recv(65536)
                    self.requests[-1] += 1
                    if letter == "w":
                        select.select([self._listening], [], [], WAIT_S)
                    if letter == "s":
                        self.stop.wait()
                    elif letter != "r":
                        connection.sendall(LAST if letter == "l" else ANSWER)
            self.closed.release()


@contextmanager
def serving(
    folder: Path, *script: str, timeout_s: float = 10.0
) -> Iterator[tuple[Connections, Server]]:
    server = Server(folder / "s", *script)
    connections = Connections(folder / "s", timeout_s=timeout_s)
    try:
        yield connections, server
    finally:
        connections.close()
        server.join()


def test_one_connection_serves_one_request_after_the_other(folder: Path) -> None:
    with serving(folder, "aaa") as (connections, server):
        assert [connections.ask("GET", "/") for _ in range(3)] == [(200, b"ok")] * 3
        assert server.requests == [3]


def test_a_connection_that_was_closed_while_it_was_idle_is_not_used(folder: Path) -> None:
    with serving(folder, "a", "a") as (connections, server):
        connections.ask("GET", "/")
        server.closed.acquire()
        assert connections.ask("GET", "/") == (200, b"ok")
        assert server.requests == [1, 1]


def test_a_connection_whose_end_was_announced_is_not_used(folder: Path) -> None:
    with serving(folder, "l", "a") as (connections, server):
        connections.ask("GET", "/")
        assert connections.ask("GET", "/") == (200, b"ok")
        assert server.requests == [1, 1]


def test_a_request_that_was_not_answered_is_asked_once_more(folder: Path) -> None:
    with serving(folder, "ar", "a") as (connections, server):
        connections.ask("GET", "/")
        assert connections.ask("GET", "/") == (200, b"ok")
        assert server.requests == [2, 1]


def test_a_request_outlives_workers_that_die_one_after_the_other(folder: Path) -> None:
    with serving(folder, "r", "r", "r", "a") as (connections, server):
        assert connections.ask("GET", "/") == (200, b"ok")
        assert server.requests == [1, 1, 1, 1]


def test_a_request_that_is_never_answered_fails(folder: Path) -> None:
    with (
        serving(folder, *["r"] * (AGAIN + 1)) as (connections, _),
        pytest.raises(TransportError, match=r"daemon at .*closed"),
    ):
        connections.ask("GET", "/")


def test_silence_ends(folder: Path) -> None:
    with (
        serving(folder, "s", timeout_s=0.05) as (connections, _),
        pytest.raises(TransportError, match="timed out"),
    ):
        connections.ask("GET", "/")


def test_requests_at_once_have_connections_of_their_own(folder: Path) -> None:
    with serving(folder, "w", "a") as (connections, server):
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(connections.ask("GET", "/")))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [(200, b"ok")] * 2
        assert server.requests == [1, 1]
