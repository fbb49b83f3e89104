"""The daemon's control API in front of one plain directory: every root is that directory."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable


class PlainDaemon:
    """Serves while the block runs; counts on nobody else listening on the socket.

    Args:
        address: the control socket to make.
        directory: what stands for every root.
        on_attach: called before an attach is answered.

    Attributes:
        holders: recipes by holder.
    """

    def __init__(
        self, address: Path, directory: Path, on_attach: Callable[[], object] = lambda: None
    ) -> None:
        self.holders: dict[str, str] = {}
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                on_attach()
                daemon.holders[body["holder"]] = body["recipe"]
                self._answer(200, daemon.root(directory))

            def do_DELETE(self) -> None:
                daemon.holders.pop(unquote(Path(self.path).name), None)
                self._answer(204, b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing; the client's address of a unix socket cannot be printed."""

        class Server(ThreadingMixIn, UnixStreamServer):
            daemon_threads = True

        self._server = Server(str(address), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @staticmethod
    def root(directory: Path) -> bytes:
        """What an attach is answered with."""
        path = str(directory)
        root = {"id": "0" * 16, "mode": "tree", "lowerdir": path, "directory": path}
        return json.dumps({**root, "origin": "", "holders": []}).encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
