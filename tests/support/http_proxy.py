"""A small HTTP proxy on loopback: forwards plain requests and tunnels, or fails as it is told."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing import BinaryIO

UPSTREAM_TIMEOUT_S = 60.0
Mode = Literal["forward", "hang up", "silent", "busy"]


class HttpProxy:
    """Listens on a free port; a context manager.

    Attributes:
        mode: what it does with the next request: forwards it, closes the connection, says
            nothing until it is stopped, answers 503.
        requests: what was asked for: URLs, and ``host:port`` of tunnels.
        logins: the ``Proxy-Authorization`` of each.
    """

    def __init__(self, mode: Mode = "forward") -> None:
        self.mode: Mode = mode
        self.requests: list[str] = []
        self.logins: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close everything, in the middle of answers, too; from now on nobody listens."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.hang_up()
        if self._accepting.is_alive():
            self._accepting.join()

    def hang_up(self) -> None:
        """Close all connections."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.add(connection)
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reading:
            while line := reading.readline():
                headers = _headers(reading)
                method, target = line.decode().split(" ")[:2]
                self.requests.append(target)
                self.logins.append(headers.pop("proxy-authorization", ""))
                if not self._answer(connection, method, target, headers):
                    break
        self._open.discard(connection)

    def _answer(
        self, connection: socket.socket, method: str, target: str, headers: dict[str, str]
    ) -> bool:
        """Answer one request; says whether the connection stays open."""
        if self.mode == "hang up":
            return False
        if self.mode == "silent":
            connection.recv(1)  # until one side closes
            return False
        if self.mode == "busy":
            return _send(connection, "503 Proxy is busy", b"busy")
        if method == "CONNECT":
            _tunnel(connection, target)
            return False
        return _forward(connection, method, target, headers)


def _headers(reading: BinaryIO) -> dict[str, str]:
    headers = {}
    while (header := reading.readline().strip()) != b"":
        name, _, value = header.decode().partition(":")
        headers[name.lower()] = value.strip()
    return headers


def _forward(connection: socket.socket, method: str, target: str, headers: dict[str, str]) -> bool:
    split = urlsplit(target)
    upstream = http.client.HTTPConnection(split.netloc, timeout=UPSTREAM_TIMEOUT_S)
    body, cut = b"", False
    try:
        upstream.request(method, split.path, headers=headers | {"connection": "close"})
        answer = upstream.getresponse()
        body = answer.read()
    except http.client.IncompleteRead as error:
        body, cut = error.partial, True
    except (OSError, http.client.HTTPException):
        return _send(connection, "502 The repository does not answer", b"no")
    finally:
        upstream.close()
    if cut:
        return False
    kept = {
        name: value for name, value in answer.getheaders() if name in ("Location", "Retry-After")
    }
    return _send(connection, f"{answer.status} {answer.reason}", body, kept)


def _send(
    connection: socket.socket, status: str, body: bytes, headers: dict[str, str] | None = None
) -> bool:
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    connection.sendall(head.encode() + body)
    return True


def _tunnel(connection: socket.socket, target: str) -> None:
    host, _, port = target.rpartition(":")
    try:
        upstream = socket.create_connection((host, int(port)), timeout=UPSTREAM_TIMEOUT_S)
    except OSError:
        _send(connection, "502 The repository does not answer", b"")
        return
    with upstream:
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        back = threading.Thread(target=_pump, args=[upstream, connection], daemon=True)
        back.start()
        _pump(connection, upstream)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
