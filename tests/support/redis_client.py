"""As much of Redis' protocol (RESP) as it takes to see whether a server is ready."""

from __future__ import annotations

import socket

TIMEOUT_S = 2.0


def ask(port: int, *words: str, timeout_s: float = TIMEOUT_S) -> str:
    """Send one command to 127.0.0.1 and give the first line of the answer, with its type byte.

    Raises:
        OSError: nobody answers.
    """
    parts = [word.encode() for word in words]
    request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
    with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            return answer.readline().decode().rstrip()


def is_ready(port: int) -> bool:
    """Whether PING is answered with PONG."""
    try:
        return ask(port, "PING") == "+PONG"
    except OSError:
        return False
