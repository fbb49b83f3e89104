"""A loopback web server that answers each request as a letter of its script says.

r: right · w: one bit wrong · 4: 404 · 5: 503 · B: 503 with Retry-After · k: closes in the middle
of the body · c: chunked, cut off · n: no length, ends with the connection · h: half the body, then
silence · s: silence · g: rubbish instead of HTTP · l: announces far too much · L: sends far too
much without a length · S: redirect within the server · X: redirect to another one · O: redirect for
ever
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

from tests.support.reading import flipped

if TYPE_CHECKING:
    from collections.abc import Mapping


class FaultyServer:
    """Serves ``files`` on a port, a free one when it is 0; a context manager.

    Attributes:
        requests: (path, headers in lower case) of every request.
        connections: how many were accepted.
        retry_after: what B says.
    """

    def __init__(
        self, files: Mapping[str, bytes], script: str = "", otherwise: str = "r", port: int = 0
    ) -> None:
        self.files = files
        self.script = script
        self.otherwise = otherwise
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.retry_after = "1"
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/repo"

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close everything, in the middle of answers, too."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._accepting.is_alive():
            self._accepting.join()

    def _accept(self) -> None:
        threads = []
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                self._open.add(connection)
                threads.append(threading.Thread(target=self._serve, args=[connection], daemon=True))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reading:
            while line := reading.readline():
                headers = {}
                while (header := reading.readline().strip()) != b"":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                path = line.decode().split(" ")[1]
                self.requests.append((path, headers))
                letter, self.script = (self.script[:1] or self.otherwise), self.script[1:]
                if not self._answer(connection, letter, path):
                    break
        self._open.discard(connection)

    def _answer(self, connection: socket.socket, letter: str, path: str) -> bool:
        """Answer one request; says whether the connection stays open."""
        body = self.files.get(path.removeprefix("/repo/").removeprefix("/moved/"))
        if letter == "4" or body is None:
            return _send(connection, "404 Not Found", b"no")
        if letter in "5B":
            asked = f"Retry-After: {self.retry_after}\r\n" if letter == "B" else ""
            return _send(connection, "503 Busy", b"busy", asked)
        if letter in "SXO":
            host = "localhost" if letter == "X" else "127.0.0.1"
            place = path if letter == "O" else f"/moved/{path.removeprefix('/repo/')}"
            location = f"Location: http://{host}:{self.port}{place}\r\n"
            return _send(connection, "302 Found", b"", location)
        if letter == "w":
            return _send(connection, "200 OK", flipped(body))
        if letter == "r":
            return _send(connection, "200 OK", body)
        half = body[: len(body) // 2]
        length = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body)
        huge = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
        close = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        connection.sendall(
            {
                "k": length + half,
                "c": chunk + half,
                "n": close + body,
                "h": length + half,
                "s": b"",
                "g": b"SSH-2.0-rubbish\r\n\r\n",
                "l": huge + body,
                "L": close + body + bytes(8 << 20),
            }[letter]
        )
        if letter in "hs":
            connection.recv(1)  # until the client or stop() closes
        return False


def _send(connection: socket.socket, status: str, body: bytes, headers: str = "") -> bool:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    connection.sendall(head.encode() + body)
    return True
