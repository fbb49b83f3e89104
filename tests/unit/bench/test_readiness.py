from __future__ import annotations

import http.server
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from thinfs.bench.readiness import Log, http_probe, tcp_probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_a_log_gives_each_line_once_and_an_open_one_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(path)
    assert log.lines() == [b""]
    path.write_bytes(b"one\ntw")
    assert log.lines() == [b"one", b"tw"]
    with path.open("ab") as file:
        file.write(b"o\n")
    assert log.lines() == [b"two", b""]
    assert log.lines() == [b""]


def test_the_first_output_is_noted_when_it_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(path)
    path.touch()
    log.lines()
    assert log.first_at is None
    path.write_bytes(b"x")
    log.lines()
    first = log.first_at
    assert first is not None
    log.lines()
    assert log.first_at == first


def test_the_end_of_a_log_is_text(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert Log(path).tail() == ""
    path.write_bytes(b"x" * 5000 + b"\xff oh no\n")
    assert Log(path).tail().endswith("\N{REPLACEMENT CHARACTER} oh no")
    assert len(Log(path).tail()) <= 300


def test_a_port_is_ready_when_it_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        probe = tcp_probe(server.getsockname()[1])
        assert probe()
    assert not probe()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/yes": 200, "/moved?x=1": 302}.get(self.path, 503))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_is_ready_when_it_answers_well(url: str) -> None:
    assert http_probe(f"{url}/yes")()
    assert http_probe(f"{url}/moved?x=1")()
    assert not http_probe(f"{url}/starting")()


def test_an_address_where_nobody_listens_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not http_probe(f"http://127.0.0.1:{port}/")()
