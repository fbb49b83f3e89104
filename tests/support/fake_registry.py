"""A registry in this process whose behaviour a test chooses: logins, redirects, faults.

It enforces what it asks for: without the right ``Authorization`` nothing is answered but 401.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that arrived."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes


@dataclass
class FakeRegistry:
    """What the server holds, how it behaves, and what it was asked.

    Attributes:
        blobs: by digest.
        manifests: (media type, bytes) by digest.
        tags: digest by ``repository:tag``.
        login: user and password that it wants; nobody's when ``None``.
        scheme: how it wants them: ``basic`` or ``bearer``.
        identity_token: accepted by the token server in place of the password.
        token_life_s: what it says of a token's life.
        redirect: base URL that blobs are redirected to.
        faults: one letter for each blob or manifest request to come, then all is well:
            ``.`` fine · ``b`` the connection breaks after half · ``s`` ends short without an error
            · ``5`` 503 · ``4`` 429 with Retry-After 0 · ``w`` wrong bytes · ``m`` 404
        ranges: whether Range is honoured.
        head: whether HEAD of manifests is answered.
        digest_header: sent in place of the true Docker-Content-Digest.
        seen: all requests, in order.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    scheme: str = "bearer"
    identity_token: str = ""
    token_life_s: float = 300
    redirect: str = ""
    faults: str = ""
    ranges: bool = True
    head: bool = True
    digest_header: str | None = None
    seen: list[Seen] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)  # scope by token
    address: str = ""
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def put(self, data: bytes) -> str:
        """Hold a blob; its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def put_manifest(self, name: str, media_type: str, data: bytes) -> str:
        """Hold a manifest under ``repository:tag``; its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.manifests[digest] = (media_type, data)
        self.tags[name] = digest
        return digest

    def expire_tokens(self) -> None:
        """No token that was given out is good any longer."""
        self.tokens.clear()

    def requests(self, method: str, part: str = "") -> list[Seen]:
        """Requests with this method whose path contains ``part``."""
        return [each for each in self.seen if each.method == method and part in each.path]

    def next_fault(self) -> str:
        """The letter for the request at hand."""
        with self._lock:
            letter, self.faults = self.faults[:1], self.faults[1:]
        return letter or "."

    def number(self) -> int:
        """A number that no other caller gets."""
        return next(self._numbers)


@contextmanager
def fake_registry(tls: ssl.SSLContext | None = None) -> Iterator[FakeRegistry]:
    """Serve a :class:`FakeRegistry` on a free loopback port for the length of the block."""
    state = FakeRegistry()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.address = f"127.0.0.1:{server.server_address[1]}"
    state.url = f"{'https' if tls else 'http'}://{state.address}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that leave early; what matters to a test, the client sees."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type] # any will do


class _Handler(BaseHTTPRequestHandler):
    state: FakeRegistry
    protocol_version = "HTTP/1.1"
    timeout = 5  # a client that keeps its connection must not keep the test

    def log_message(self, *args: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - http.server looks for these names

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen = Seen(self.command, url.path, parse_qs(url.query), dict(self.headers.items()), body)
        self.state.seen.append(seen)
        if url.path == "/token":
            self._token(seen)
        elif not self._is_let_in(url.path):
            self._challenge(url.path)
        elif self.command in ("POST", "PUT"):
            self._take(seen)
        else:
            self._give(url.path)

    def _answer(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _scope(self, path: str) -> str:
        repository = re.match(r"/v2/(.+?)/(?:manifests|blobs)/", path)
        actions = "pull,push" if self.command in ("POST", "PUT") else "pull"
        return f"repository:{repository[1] if repository else ''}:{actions}"

    def _is_let_in(self, path: str) -> bool:
        if self.state.login is None:
            return True
        given = self.headers.get("Authorization", "")
        if self.state.scheme == "basic":
            return given == _basic(*self.state.login)
        held = self.state.tokens.get(given.removeprefix("Bearer "), "")
        resource, _, actions = self._scope(path).rpartition(":")
        held_resource, _, held_actions = held.rpartition(":")
        return resource == held_resource and set(actions.split(",")) <= set(held_actions.split(","))

    def _challenge(self, path: str) -> None:
        scope = self._scope(path)
        challenge = 'Basic realm="test"'
        if self.state.scheme == "bearer":
            challenge = f'Bearer realm="{self.state.url}/token?a=b",service="fake",scope="{scope}"'
        self._answer(401, headers={"WWW-Authenticate": challenge})

    def _token(self, seen: Seen) -> None:
        form = parse_qs(seen.body.decode()) if self.command == "POST" else seen.query
        by_token = self.state.identity_token and form.get("refresh_token") == [
            self.state.identity_token
        ]
        assert self.state.login is not None
        by_password = seen.headers.get("Authorization") == _basic(*self.state.login)
        if not (by_token if self.command == "POST" else by_password):
            self._answer(401)
            return
        token = f"secret-token-{self.state.number()}"
        self.state.tokens[token] = form["scope"][0]
        answer = {"token": token, "expires_in": self.state.token_life_s}
        self._answer(200, json.dumps(answer).encode())

    def _give(self, path: str) -> None:
        repository, kind, name = path.removeprefix("/v2/").rsplit("/", 2)
        if kind == "blobs":
            if self.state.redirect:
                self._answer(307, headers={"Location": self.state.redirect + path})
                return
            self._body(self.state.blobs.get(name), "application/octet-stream", name)
            return
        if self.command == "HEAD" and not self.state.head:
            self._answer(405)
            return
        digest = self.state.tags.get(f"{repository}:{name}", name)
        media_type, data = self.state.manifests.get(digest, ("", None))
        self._body(data, media_type, self.state.digest_header or digest)

    def _body(self, data: bytes | None, media_type: str, digest: str) -> None:
        fault = self.state.next_fault()
        if data is None or fault == "m":
            self._answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}')
            return
        if fault in ("5", "4"):
            self._answer({"5": 503, "4": 429}[fault], headers={"Retry-After": "0"})
            return
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
        if fault == "w":
            data = bytes([data[0] ^ 1]) + data[1:]
        status = 200
        wanted = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        if wanted and self.state.ranges:
            begin, end = int(wanted[1]), len(data)
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{end}"
            status, data = 206, data[begin:]
        if fault in ("b", "s"):
            half = data[: len(data) // 2]
            headers["Content-Length"] = str(len(data if fault == "b" else half))
            self._answer(status, half, headers)
            self.close_connection = True
            return
        self._answer(status, data, headers)

    def _take(self, seen: Seen) -> None:
        name = seen.path.rpartition("/")[2]
        if self.command == "POST":
            upload = f"{seen.path}{self.state.number()}"
            self._answer(202, headers={"Location": f"{upload}?state=x"})
            return
        digest = f"sha256:{hashlib.sha256(seen.body).hexdigest()}"
        if "/manifests/" in seen.path:
            repository = seen.path.removeprefix("/v2/").rpartition("/manifests/")[0]
            media_type = seen.headers["Content-Type"]
            self.state.put_manifest(f"{repository}:{name}", media_type, seen.body)
        elif seen.query["digest"] == [digest] and seen.query["state"] == ["x"]:
            self.state.blobs[digest] = seen.body
        else:
            self._answer(400)
            return
        self._answer(201, headers={"Docker-Content-Digest": self.state.digest_header or digest})


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
