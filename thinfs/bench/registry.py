"""A read-only registry for images in OCI layouts: what is pulled when no registry has it.

``python -m thinfs.bench.registry NAME=LAYOUT:TAG…`` listens on a free port of 127.0.0.1, prints
the port, and serves until it is stopped. It has no login and no TLS: the node behind it is on
this machine, and what is behind the node's back is not its business.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Final

from thinfs.errors import MissingError, UsageError
from thinfs.oci.layout import BLOBS, INDEX_FILE, pick
from thinfs.oci.model import MAX_MANIFEST_BYTES, MediaType

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST: Final = "127.0.0.1"
_CONNECTIONS: Final = 128
_MANIFEST: Final = re.compile(r"/v2/(?P<name>[a-z0-9/._-]+)/manifests/(?P<reference>[\w.:-]+)\Z")
_BLOB: Final = re.compile(r"/v2/[a-z0-9/._-]+/blobs/sha256:(?P<digest>[0-9a-f]{64})\Z")
_DIGEST: Final = re.compile(r"sha256:(?P<digest>[0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class Served:
    """One image that is served, under any tag.

    Attributes:
        name: repository in the registry.
        layout: directory of the OCI layout.
        tag: of the image in it; ``None``: the only one.
    """

    name: str
    layout: Path
    tag: str | None

    @classmethod
    def parse(cls, text: str) -> Served:
        """Read ``NAME=LAYOUT:TAG``; the tag may be empty.

        Raises:
            UsageError: it is something else.
        """
        name, equals, place = text.partition("=")
        layout, colon, tag = place.partition("::")
        if not equals or not colon:
            raise UsageError(f"{text!r}: give NAME=LAYOUT::TAG")
        return cls(name, Path(layout), tag or None)

    @property
    def text(self) -> str:
        """As :meth:`parse` reads it."""
        return f"{self.name}={self.layout}::{self.tag or ''}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path stands for.

    Attributes:
        file: with the bytes.
        media_type: of them.
        digest: of them, with ``sha256:``.
    """

    file: Path
    media_type: str
    digest: str


def find(path: str, images: Sequence[Served]) -> Answer | None:
    """What a path of the registry's API stands for; ``None``: nothing that is served."""
    if match := _BLOB.match(path):
        return _blob(match["digest"], images, "application/octet-stream")
    match = _MANIFEST.match(path)
    if match is None:
        return None
    named = [image for image in images if image.name == match["name"]]
    if digest := _DIGEST.match(match["reference"]):
        return _blob(digest["digest"], named, None)
    for image in named:
        index = (image.layout / INDEX_FILE).read_bytes()
        entry = pick(index, image.tag, str(image.layout))
        return _blob(entry.digest.removeprefix("sha256:"), named, entry.media_type)
    return None


def _blob(digest: str, images: Sequence[Served], media_type: str | None) -> Answer | None:
    for image in images:
        file = image.layout / BLOBS / digest
        if file.is_file():
            return Answer(file, media_type or _media_type(file), f"sha256:{digest}")
    return None


def _media_type(file: Path) -> str:
    """Of a manifest or index: what it says of itself, or what its shape says."""
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        return "application/octet-stream"
    document = json.loads(file.read_bytes())
    default = MediaType.OCI_INDEX if "manifests" in document else MediaType.OCI_MANIFEST
    return str(document.get("mediaType") or default)


def server(images: Sequence[Served]) -> ThreadingHTTPServer:
    """A server on a free port, that answers once ``serve_forever`` is called."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            if self.path == "/v2/":
                self._head(HTTPStatus.OK, "application/json", 2, "")
                self.wfile.write(b"{}" if body else b"")
                return
            try:
                found = find(self.path, images)
            except (MissingError, OSError):
                found = None
            if found is None:
                self._head(HTTPStatus.NOT_FOUND, "application/json", 0, "")
                return
            with found.file.open("rb") as file:
                size = found.file.stat().st_size
                self._head(HTTPStatus.OK, found.media_type, size, found.digest)
                if body:
                    self.connection.sendfile(file)

        def _head(self, status: HTTPStatus, media_type: str, size: int, digest: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(size))
            if digest:
                self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
            """Say nothing: requests are counted on the line."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = _CONNECTIONS

    return Server((HOST, 0), Handler)


def main(arguments: Sequence[str]) -> int:
    """Serve until the process is stopped."""
    listening = server([Served.parse(text) for text in arguments])
    print(listening.server_address[1], flush=True)  # noqa: T201 - what its parent waits for
    listening.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
