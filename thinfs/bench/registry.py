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
from typing import TYPE_CHECKING, BinaryIO, Final

from thinfs.errors import MissingError, UsageError
from thinfs.oci.layout import BLOBS, INDEX_FILE, pick
from thinfs.oci.model import MAX_MANIFEST_BYTES, MediaType

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST: Final = "127.0.0.1"
_CONNECTIONS: Final = 128
_MANIFEST: Final = re.compile(r"/v2/(?P<name>[a-z0-9/._-]+)/manifests/(?P<reference>[\w.:-]+)\Z")
_BLOB: Final = re.compile(r"/v2/[a-z0-9/._-]+/blobs/sha256:(?P<digest>[0-9a-f]{64})\Z")
_RANGE: Final = re.compile(r"(?P<first>\d{1,18})-(?P<last>\d{0,18})")
MAX_RANGES: Final = 1_000
_BOUNDARY: Final = "thinfs-bench-part"
_END: Final = f"\r\n--{_BOUNDARY}--\r\n".encode()
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


def ranges_of(header: str, size: int) -> list[tuple[int, int]]:
    """The byte ranges that are asked for, as (first, length); empty: the whole file.

    Snapshotters that fetch parts of layers ask for several at once. A header that is malformed
    or asks for nothing that is there counts as none (RFC 9110, section 14.2).
    """
    unit, _, text = header.partition("=")
    found = []
    for part in text.split(",") if unit.strip() == "bytes" else ():
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return []
        first = int(match["first"])
        last = min(int(match["last"] or size), size - 1)
        if first <= last:
            found.append((first, last - first + 1))
    return found[:MAX_RANGES]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = _CONNECTIONS

    def __init__(self, images: Sequence[Served]) -> None:
        super().__init__((HOST, 0), _Handler)
        self.images = images


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body must not wait until its head is acknowledged

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
            found = find(self.path, self.server.images)
        except (MissingError, OSError):
            found = None
        if found is None:
            self._head(HTTPStatus.NOT_FOUND, "application/json", 0, "")
            return
        ranges = ranges_of(self.headers.get("Range", ""), found.file.stat().st_size)
        with found.file.open("rb") as file:
            if body and ranges:
                self._answer_ranges(found, file, ranges)
                return
            size = found.file.stat().st_size
            self._head(HTTPStatus.OK, found.media_type, size, found.digest)
            if body:
                self.connection.sendfile(file)

    def _answer_ranges(self, found: Answer, file: BinaryIO, ranges: list[tuple[int, int]]) -> None:
        size = found.file.stat().st_size
        heads = [_part_head(found, size, each) for each in ranges]
        several = len(ranges) > 1
        length = sum(length for _, length in ranges)
        if several:
            length += sum(len(head) for head in heads) + len(_END)
        media_type = f"multipart/byteranges; boundary={_BOUNDARY}"
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", media_type if several else found.media_type)
        self.send_header("Content-Length", str(length))
        if not several:
            self.send_header("Content-Range", _content_range(size, ranges[0]))
        self.end_headers()
        self.wfile.flush()
        for head, (first, count) in zip(heads, ranges, strict=True):
            if several:
                self.wfile.write(head)
                self.wfile.flush()
            self.connection.sendfile(file, first, count)
        if several:
            self.wfile.write(_END)

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


def server(images: Sequence[Served]) -> ThreadingHTTPServer:
    """A server on a free port, that answers once ``serve_forever`` is called."""
    return _Server(images)


def _part_head(found: Answer, size: int, part: tuple[int, int]) -> bytes:
    return (
        f"\r\n--{_BOUNDARY}\r\nContent-Type: {found.media_type}\r\n"
        f"Content-Range: {_content_range(size, part)}\r\n\r\n"
    ).encode()


def _content_range(size: int, part: tuple[int, int]) -> str:
    first, length = part
    return f"bytes {first}-{first + length - 1}/{size}"


def main(arguments: Sequence[str]) -> int:
    """Serve until the process is stopped."""
    listening = server([Served.parse(text) for text in arguments])
    print(listening.server_address[1], flush=True)  # noqa: T201 - what its parent waits for
    listening.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
