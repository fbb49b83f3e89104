"""Finding out when a container is ready, from inside of its node's network."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from thinfs.bench.namespaces import enter
from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thinfs.bench.containerd import Events
    from thinfs.bench.values import Ready

POLL_S: Final = 0.002
PROBE_TIMEOUT_S: Final = 2.0
LAST_OUTPUT_S: Final = 0.5
"""How long after a container's end its output may still be on its way to us."""

_TAIL_BYTES: Final = 300
_MAX_LINE_BYTES: Final = 1 << 20


class Log:
    """A container's output, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""
        self.first_at: float | None = None

    def lines(self) -> list[bytes]:
        """Lines that have come since the last call; the last one may still grow, then again."""
        data = b""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        if data and self.first_at is None:
            self.first_at = time.time()
        self._read += len(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines[-1][-_MAX_LINE_BYTES:]
        return lines

    def tail(self) -> str:
        """The end of it, for messages."""
        with contextlib.suppress(OSError):
            return self._path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        return ""


class Probe(Protocol):
    """Says whether a container is ready now."""

    def __call__(self) -> bool:
        """Ask once; at most :data:`PROBE_TIMEOUT_S`."""


class Watch:
    """Watches one container from the moment it is made until it is ready.

    Args:
        ready: when it is.
        namespace: the node's network namespace, where probes connect from.
        output: file with the container's output.
        events: of its containerd.
        container: its name.
    """

    def __init__(
        self, ready: Ready, namespace: Path, output: Path, events: Events, container: str
    ) -> None:
        self._ready = ready
        self._log = Log(output)
        self._namespace = namespace
        self._events = events
        self._container = container
        self._ready_at: float | None = None
        self._error: BaseException | None = None
        self._ending = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)

    @property
    def output_at(self) -> float | None:
        """When its first output was seen; ``None``: there was none until it was ready."""
        return self._log.first_at

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End watching, whatever was seen."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def wait(self, timeout_s: float) -> float:
        """When it was ready, as ``time.time()``.

        Raises:
            StoreError: it ended before, or was not ready in time; with the end of its output.
        """
        if not self._done.wait(timeout_s):
            raise StoreError(f"not ready after {timeout_s:g} s; its output ends: {self._said}")
        if self._error is not None:
            raise self._error
        assert self._ready_at is not None
        return self._ready_at

    def _run(self) -> None:
        try:
            enter(self._namespace)
            probe = self._probe()
            while not self._ending.wait(POLL_S):
                if probe():
                    self._ready_at = self._ready_at or time.time()
                    return
                self._check_that_it_lives()
        except BaseException as error:  # the thread that waits raises it
            self._error = error
        finally:
            self._done.set()

    def _probe(self) -> Probe:
        if self._ready.kind == "exit":
            return self._ended_well
        if self._ready.kind == "line":
            return self._line_probe(re.compile(self._ready.text.encode()))
        ask = (
            tcp_probe(int(self._ready.text))
            if self._ready.kind == "tcp"
            else http_probe(self._ready.text)
        )
        return self._beside_the_log(ask)

    def _line_probe(self, pattern: re.Pattern[bytes]) -> Probe:
        return lambda: any(pattern.search(line) for line in self._log.lines())

    def _beside_the_log(self, ask: Callable[[], bool]) -> Probe:
        def probe() -> bool:
            self._log.lines()
            return ask()

        return probe

    def _ended_well(self) -> bool:
        self._log.lines()
        event = self._events.find("/tasks/exit", self._container)
        if event is None:
            return False
        if event.body.get("exit_status", 0) == 0:
            self._ready_at = event.at_unix_s
            return True
        return False

    def _check_that_it_lives(self) -> None:
        event = self._events.find("/tasks/exit", self._container)
        if event is None or time.time() < event.at_unix_s + LAST_OUTPUT_S:
            return
        status = event.body.get("exit_status", 0)
        raise StoreError(
            f"the container ended with status {status} before it was ready; its output ends:"
            f" {self._said}"
        )

    @property
    def _said(self) -> str:
        return self._log.tail() or "(nothing)"


def tcp_probe(port: int) -> Probe:
    """Whether something accepts connections on 127.0.0.1."""

    def probe() -> bool:
        with socket.socket() as attempt:
            attempt.settimeout(PROBE_TIMEOUT_S)
            return attempt.connect_ex(("127.0.0.1", port)) == 0

    return probe


def http_probe(url: str) -> Probe:
    """Whether a URL answers with a status below 400."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def probe() -> bool:
        connection = kind(parts.hostname or "", parts.port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status < http.HTTPStatus.BAD_REQUEST
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return probe
