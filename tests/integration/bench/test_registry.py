"""The registry of a benchmark over HTTP, as those who pull see it."""

from __future__ import annotations

import contextlib
import email
import hashlib
import http.client
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import needs
from tests.support.layouts import make_layout, tar_layer
from thinfs.bench.registry import Served, server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    make_layout(tmp_path / "layout", "one", [tar_layer({"a": bytes(range(256)) * 40})])
    return tmp_path / "layout"


@pytest.fixture
def port(layout: Path) -> Iterator[int]:
    listening = server([Served("bench", layout, "one")])
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield listening.server_address[1]
    listening.shutdown()
    thread.join()
    listening.server_close()


def get(port: int, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()


@pytest.fixture
def blob(layout: Path) -> bytes:
    """The largest blob: a layer."""
    return max((file.read_bytes() for file in (layout / "blobs/sha256").iterdir()), key=len)


def path_of(blob: bytes) -> str:
    return f"/v2/bench/blobs/sha256:{hashlib.sha256(blob).hexdigest()}"


def test_skopeo_copies_an_image_from_it(port: int, tmp_path: Path) -> None:
    copy = [needs.command("skopeo"), "--insecure-policy", "copy", "--src-tls-verify=false"]
    source = f"docker://127.0.0.1:{port}/bench:latest"
    subprocess.run([*copy, source, f"oci:{tmp_path}/copy:one"], check=True, capture_output=True)


def test_a_range_is_answered_alone(port: int, blob: bytes) -> None:
    answer, body = get(port, path_of(blob), Range="bytes=10-29")
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes 10-29/{len(blob)}"
    assert body == blob[10:30]


def test_several_ranges_are_answered_at_once(port: int, blob: bytes) -> None:
    answer, body = get(port, path_of(blob), Range="bytes=0-4,20-24,50-")
    assert answer.status == 206
    assert int(answer.headers["Content-Length"]) == len(body)
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + body).get_payload()
    assert isinstance(parts, list)
    assert [part["Content-Range"] for part in parts if not isinstance(part, str)] == [
        f"bytes 0-4/{len(blob)}",
        f"bytes 20-24/{len(blob)}",
        f"bytes 50-{len(blob) - 1}/{len(blob)}",
    ]
    for piece in (blob[:5], blob[20:25], blob[50:]):
        assert b"\r\n\r\n" + piece + b"\r\n--" in body


def test_without_a_range_all_of_it_comes(port: int, blob: bytes) -> None:
    answer, body = get(port, path_of(blob))
    assert (answer.status, body) == (200, blob)


def test_what_is_not_there_is_not_found(port: int) -> None:
    assert get(port, "/v2/bench/blobs/sha256:" + "0" * 64)[0].status == 404
    assert get(port, "/v2/bench/manifests/latest")[0].status == 200
    assert get(port, "/v2/")[0].status == 200
