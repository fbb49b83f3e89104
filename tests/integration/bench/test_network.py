"""A node's network on this machine's kernel: rates, delays, reachability, and what is left."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import needs
from thinfs.bench.leftovers import mounts_below
from thinfs.bench.namespaces import call_in
from thinfs.bench.network import Network
from thinfs.bench.observer import Observer
from thinfs.bench.outside import set_sysctl
from thinfs.bench.processes import run, wait_until
from thinfs.bench.scratch import scratch
from thinfs.bench.values import Link, parse_link

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = bytes(range(256)) * 4096 * 3


@pytest.fixture(autouse=True)
def _possible() -> None:
    needs.root()
    needs.command("ip", "iproute2")
    needs.command("nsenter", "util-linux")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = BODY if self.path == "/large" else b"small"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    """A web server on this machine's 127.0.0.1."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def fetched(network: Network, port: int, path: str = "/large", host: str = "127.0.0.1") -> float:
    """Seconds that one request of the node takes; the body is checked."""

    def fetch() -> float:
        begin = time.monotonic()
        connection = http.client.HTTPConnection(host, port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            body = connection.getresponse().read()
        assert body == (BODY if path == "/large" else b"small")
        return time.monotonic() - begin

    return call_in(network.namespace, fetch)


@contextlib.contextmanager
def node(tmp_path: Path, link: Link | None) -> Iterator[Network]:
    with scratch(tmp_path) as place, Network(place.slot, link, place.folder) as network:
        yield network


@pytest.mark.parametrize("link", ["", "1gbit,1ms", "100mbit,10ms"])
def test_a_server_on_loopback_is_found_under_its_own_address(
    tmp_path: Path, port: int, link: str
) -> None:
    with node(tmp_path, parse_link(link) if link else None) as network:
        network.expose(port)
        fetched(network, port)


def test_other_ports_of_loopback_are_the_nodes_own(tmp_path: Path, port: int) -> None:
    with node(tmp_path, None) as network, pytest.raises(ConnectionRefusedError):
        fetched(network, port)


def test_the_machines_own_address_is_reached_as_from_outside(tmp_path: Path) -> None:
    with node(tmp_path, None) as network:
        server = http.server.ThreadingHTTPServer((network.outside_address, 0), _Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            fetched(network, server.server_address[1], host=network.outside_address)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.mark.parametrize(
    ("text", "bytes_per_s", "round_trip_s"),
    [("100mbit,10ms", 12_500_000, 0.010), ("1gbit,1ms", 125_000_000, 0.001)],
)
def test_a_line_is_no_faster_than_it_says_and_as_far(
    tmp_path: Path, port: int, text: str, bytes_per_s: int, round_trip_s: float
) -> None:
    with node(tmp_path, parse_link(text)) as network:
        network.expose(port)
        small = min(fetched(network, port, "/small") for _ in range(5))
        large = fetched(network, port)
    assert small >= 2 * round_trip_s  # to connect, and to ask
    assert large >= len(BODY) / bytes_per_s
    # and not much slower: four times leaves room for what else this machine does
    assert small < 2 * round_trip_s + 0.2
    assert large < 4 * len(BODY) / bytes_per_s + 0.5


@pytest.mark.parametrize("link", ["", "100mbit,10ms"])
def test_what_crosses_the_line_is_counted_to_the_byte(tmp_path: Path, port: int, link: str) -> None:
    with node(tmp_path, parse_link(link) if link else None) as network:
        network.expose(port)
        with Observer(network) as observer:
            observer.settle()
            before, began = observer.received(), time.time()
            for path in ("/large", "/small", "/large"):
                fetched(network, port, path)
            observer.settle()
            traffic = observer.traffic(began, time.time(), before, observer.received())
    body = 2 * len(BODY) + len(b"small")
    assert traffic.bytes - traffic.header_bytes == pytest.approx(body, rel=0.001)
    assert traffic.bytes == traffic.settled_bytes
    assert traffic.requests == traffic.connections == 3
    assert [each.line for each in traffic.seen] == ["GET /large", "GET /small", "GET /large"]
    assert traffic.samples[-1].bytes == pytest.approx(traffic.bytes, rel=0.001)


def test_nothing_is_left_of_a_network(tmp_path: Path) -> None:
    forwarding = _forwarding()
    with node(tmp_path, Link(100_000_000, 0.01)) as network:
        assert network.namespace.exists()
        assert network.outside_device in _links()
    assert network.outside_device not in _links()
    assert not network.namespace.exists()
    assert _forwarding() == forwarding
    assert network.outside_device not in run(["iptables-save"])


def test_what_lies_behind_this_machine_is_reached_through_it(tmp_path: Path) -> None:
    needs.command("iptables")
    with node(tmp_path, None) as network:
        if network.cut_off:
            needs.impossible(f"no address translation: {network.cut_off}")
        with _another_machine(network.outside_device[3:-1]) as (address, namespace):
            server = call_in(
                namespace, lambda: http.server.ThreadingHTTPServer((address, 0), _Handler)
            )
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                fetched(network, server.server_address[1], host=address)
            finally:
                server.shutdown()
                thread.join()
                server.server_close()


@contextlib.contextmanager
def _another_machine(number: str) -> Iterator[tuple[str, Path]]:
    """A namespace that only this machine can reach, and that knows nothing of the node's."""
    name, device = f"thinfs-test-{os.getpid()}-far", f"tft{number}h"
    address, near = f"198.19.{number}.2", f"198.19.{number}.1"
    run(["ip", "netns", "add", name])
    try:
        run(["ip", "link", "add", device, "type", "veth", "peer", "name", "far", "netns", name])
        run(["ip", "address", "add", f"{near}/30", "dev", device])
        run(["ip", "link", "set", device, "up"])
        run(["ip", "-n", name, "address", "add", f"{address}/30", "dev", "far"])
        run(["ip", "-n", name, "link", "set", "far", "up"])
        set_sysctl(f"net/ipv4/conf/{device}/forwarding", "1")
        yield address, Path("/run/netns", name)
    finally:
        run(["ip", "netns", "delete", name])


HOLDER = """
import pathlib, sys, time
from thinfs.bench.network import Network
from thinfs.bench.processes import Process
from thinfs.bench.scratch import scratch
from thinfs.bench.values import Link
base = pathlib.Path(sys.argv[1])
with scratch(base) as place, Network(place.slot, Link(10**8, 0.01), place.folder) as network:
    import subprocess
    mounted = place.folder / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", mounted], check=True)
    child = Process(network.argv(["sleep", "1000"]), folder=place.folder, name="child")
    print(place.slot, place.folder, child.popen.pid, flush=True)
    time.sleep(1000)
"""


@contextlib.contextmanager
def _holder(base: Path) -> Iterator[tuple[subprocess.Popen[str], int, Path, int]]:
    """Another benchmark: its process, slot, folder, and a process that it started."""
    command = [sys.executable, "-c", HOLDER, str(base)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            slot, folder, child = process.stdout.readline().split()
            yield process, int(slot), Path(folder), int(child)
        finally:
            process.kill()


def test_what_a_killed_benchmark_leaves_is_removed_by_the_next_one(tmp_path: Path) -> None:
    with _holder(tmp_path) as (process, slot, folder, child):
        assert mounts_below(folder)
        process.kill()
        process.wait()
        with scratch(tmp_path):
            assert not (folder / "mounted").exists()
            assert not mounts_below(folder)
            assert not Path(f"/run/netns/thinfs-bench-{slot}").exists()
            assert f"tfb{slot}o" not in _links()
            wait_until(lambda: not _alive(child), "the child to end")


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    with _holder(tmp_path) as (process, slot, folder, child):
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert not folder.exists()
        assert not Path(f"/run/netns/thinfs-bench-{slot}").exists()
        assert not _alive(child)


def test_benchmarks_side_by_side_do_not_touch_each_other(tmp_path: Path) -> None:
    with _holder(tmp_path) as (process, slot, folder, _), scratch(tmp_path) as mine:
        assert mine.slot != slot
        assert process.poll() is None
        assert mounts_below(folder)


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _links() -> set[str]:
    return {each["ifname"] for each in json.loads(run(["ip", "-json", "link", "show"]))}


def _forwarding() -> dict[str, str]:
    """Of all devices but those of benchmarks, which come and go."""
    found = Path("/proc/sys/net/ipv4/conf").glob("*/forwarding")
    return {
        path.parent.name: path.read_text()
        for path in found
        if not path.parent.name.startswith(("tf", "veth"))
    }
