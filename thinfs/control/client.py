"""The control API as a caller sees it: synchronous, for the command line and the snapshotter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self, TypeVar
from urllib.parse import quote

import msgspec

from thinfs.control.connection import Connections
from thinfs.control.problems import error_of
from thinfs.control.values import AttachRequest, Expectation, Root, Status, Trace
from thinfs.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

TIMEOUT_S: Final = 300.0
"""Longest silence of the daemon: attaching waits for a catalog to arrive."""

_PROBLEMS: Final = 400


class ControlClient:
    """Talks to the daemon of this node. Threads may share it; a context manager.

    Every method raises what the daemon raised, as the class in ``thinfs.errors`` that it was
    there, and :class:`TransportError` when the daemon does not run.

    Args:
        socket: the daemon's ``[daemon] socket``.
        timeout_s: longest silence.
    """

    def __init__(self, socket: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._socket = socket
        self._connections = Connections(socket, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections."""
        self._connections.close()

    def status(self) -> Status:
        """The daemon as a whole."""
        return self._ask("GET", "/v1/status", Status)

    def roots(self) -> list[Root]:
        """What is attached."""
        return self._ask("GET", "/v1/roots", list[Root])

    def attach(self, holder: str, recipe: str) -> Root:
        """Make a root available until its holder gives it up; asking again changes nothing.

        Args:
            holder: 1 to 200 characters of ``[A-Za-z0-9._-]``; its claim on another root moves.
            recipe: the text of ``thin.json``.

        Raises:
            UsageError: no repository of the recipe is allowed on this node.
            FormatError: the recipe or its catalog is malformed.
            MissingError: no repository has the catalog.
            IntegrityError: the catalog is damaged.
            TransportError: no repository could be read, or the daemon does not run.
        """
        body = msgspec.json.encode(AttachRequest(holder=holder, recipe=recipe))
        return self._ask("POST", "/v1/roots", Root, body)

    def expect(self, recipe: str) -> None:
        """Say that a root will probably be attached soon; returns at once.

        Args:
            recipe: the text of ``thin.json``.

        Raises:
            FormatError: it is none of ours.
        """
        self._send("POST", "/v1/expected", msgspec.json.encode(Expectation(recipe=recipe)))

    def detach(self, holder: str) -> None:
        """Give up a holder's claim, whether or not it has one."""
        # Dots too: "." and ".." are names here, no steps on a path.
        name = quote(holder, safe="").replace(".", "%2E")
        self._send("DELETE", f"/v1/roots/{name}")

    def trace(self, root: str) -> Trace:
        """What happened to an attached root since it was attached.

        Args:
            root: its id.

        Raises:
            MissingError: no such root is attached.
        """
        return self._ask("GET", f"/v1/roots/{quote(root, safe='')}/trace", Trace)

    def metrics(self) -> str:
        """The daemon's metrics as Prometheus text."""
        return self._send("GET", "/metrics").decode()

    def _ask(self, method: str, path: str, kind: type[T], body: bytes = b"") -> T:
        answer = self._send(method, path, body)
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(
                f"the daemon at {self._socket} answers differently than this thinfs expects"
                f" ({error}): are both of the same version?"
            ) from error

    def _send(self, method: str, path: str, body: bytes = b"") -> bytes:
        status, answer = self._connections.ask(method, path, body)
        if status >= _PROBLEMS:
            raise error_of(answer)
        return answer
