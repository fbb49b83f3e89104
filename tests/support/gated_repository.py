"""A repository over HTTP whose objects wait behind a gate."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

_SHUT_AT_MOST_S = 120.0


class GatedRepository:
    """Serves a directory while the block runs; objects only while the gate is open.

    Args:
        directory: of the repository.

    Attributes:
        url: its address.
        gate: set to let objects through; it is at first.
        waiting: requests that have come to a gate that was shut.
    """

    def __init__(self, directory: Path) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = 0
        gated = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/objects/") and not gated.gate.is_set():
                    gated.waiting += 1
                    gated.gate.wait(_SHUT_AT_MOST_S)
                with contextlib.suppress(ConnectionError):  # the one who asked may be dead
                    super().do_GET()

            def log_message(self, *_: object) -> None:
                """Tests are told by what they read."""

        handler = partial(Handler, directory=str(directory))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
