"""``thinfs serve`` as a process: what it says, how it stops."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.servers import STOP_S, thinfs_serve
from tests.support.static_repository import StaticRepository, make_static_repository
from thinfs.store.layout import catalog_path

SERVE = (sys.executable, "-m", "thinfs.cli.main", "serve")


def has_open(pid: int, file: Path) -> bool:
    """Whether a process has a file open."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if link.readlink() == file:
                return True
    return False


@pytest.fixture
def repository(tmp_path: Path) -> StaticRepository:
    return make_static_repository(tmp_path / "repository")


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_while_a_connection_is_open(
    repository: StaticRepository, stop_signal: signal.Signals
) -> None:
    with thinfs_serve(repository.path) as (url, process):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connection.request("GET", "/thinfs.json")
        assert connection.getresponse().read() == repository.changing["thinfs.json"]
        process.send_signal(stop_signal)
        assert process.wait(STOP_S) == 0
        connection.close()


def test_a_reader_that_stops_reading_does_not_keep_it_from_stopping(
    repository: StaticRepository,
) -> None:
    path = catalog_path(b"\xab" * 32)
    (repository.path / path).parent.mkdir()
    with (repository.path / path).open("wb") as file:
        file.truncate(64 << 20)  # more than socket buffers take
    with thinfs_serve(repository.path) as (url, process):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connection.request("GET", f"/{path}")
        assert connection.getresponse().read(1) == b"\0"
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0
        connection.close()


def test_a_reader_that_leaves_in_the_middle_disturbs_nobody(repository: StaticRepository) -> None:
    path = catalog_path(b"\xcd" * 32)
    (repository.path / path).parent.mkdir()
    with (repository.path / path).open("wb") as file:
        file.truncate(64 << 20)
    with thinfs_serve(repository.path) as (url, process):
        for _ in range(20):
            leaving = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
            leaving.request("GET", f"/{path}")
            leaving.getresponse().read(1)
            leaving.close()
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connection.request("GET", f"/{path}")
        assert len(connection.getresponse().read()) == 64 << 20
        connection.close()
        deadline = time.monotonic() + 20
        while has_open(process.pid, repository.path / path):
            assert time.monotonic() < deadline, "the file is still open"


def test_the_etag_is_the_name_of_the_file(repository: StaticRepository) -> None:
    with thinfs_serve(repository.path) as (url, _):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        for path in repository.objects | repository.records:
            connection.request("HEAD", f"/{path}")
            response = connection.getresponse()
            response.read()
            assert response.headers["ETag"] == f'"{path.rpartition("/")[2]}"'
        connection.close()


def test_a_file_that_changes_in_place_gets_another_etag(repository: StaticRepository) -> None:
    def tag(url: str) -> str | None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connection.request("GET", "/oci/index.json")
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.headers["ETag"]

    with thinfs_serve(repository.path) as (url, _):
        before = tag(url)
        replacement = repository.path / "oci/new"
        replacement.write_bytes(repository.changing["oci/index.json"])  # even with equal bytes
        replacement.rename(repository.path / "oci/index.json")
        assert tag(url) != before


def test_it_says_what_to_convert_with_and_what_to_allow(repository: StaticRepository) -> None:
    command = [*SERVE, "--repo", str(repository.path), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        process.terminate()
        assert process.wait(STOP_S) == 0
    url = lines[0].split()[-1]
    assert f"thinfs convert --url {url} IMAGE" in lines[1]
    assert lines[4].strip() == f'allow = ["{url}"]'


def test_json_is_one_line_with_the_address(repository: StaticRepository) -> None:
    command = [*SERVE, "--repo", str(repository.path), "--listen", "[::1]:0", "--json"]
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        process.terminate()
        rest = process.stdout.read()
        assert process.wait(STOP_S) == 0
    assert said["url"].startswith("http://[::1]:")
    assert said["allow"] == [said["url"]]
    assert said["repository"] == str(repository.path)
    assert rest == ""


def test_the_access_log_shows_requests_without_their_control_characters(
    repository: StaticRepository,
) -> None:
    command = [*SERVE, "--repo", str(repository.path), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--json", "--access-log"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = json.loads(process.stdout.readline())["url"]
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        for path in ("/thinfs.json", "/a%0aFORGED%1b[2J"):
            connection.request("GET", path)
            connection.getresponse().read()
        process.terminate()
        log = process.stderr.read()
        assert process.wait(STOP_S) == 0
        connection.close()
    assert "GET '/thinfs.json' 200" in log
    assert "GET '/a\\nFORGED\\x1b[2J' 404" in log
    assert len(log.splitlines()) == 2


def test_mistakes_are_named(tmp_path: Path, repository: StaticRepository) -> None:
    def message(*arguments: str) -> str:
        ran = subprocess.run([*SERVE, *arguments], capture_output=True, text=True, check=False)
        assert ran.returncode in {2, 3}
        assert len(ran.stderr.splitlines()) == 1
        return ran.stderr

    assert "is not a thinfs repository" in message("--repo", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        said = message("--repo", str(repository.path), "--listen", listen)
        assert f"cannot listen on {listen}" in said
