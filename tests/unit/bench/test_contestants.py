from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.layouts import make_layout, tar_layer
from thinfs.bench import registry
from thinfs.bench.addresses import is_loopback, loopback_ports
from thinfs.bench.containerd import parse_event, replaced
from thinfs.bench.contestants import PEERS, Wanted, contestant
from thinfs.bench.measure import local_pull, proxy_ports
from thinfs.bench.nodes import configuration
from thinfs.bench.processes import run, shown
from thinfs.bench.registry import Served
from thinfs.bench.values import Proxy, Thin
from thinfs.errors import MissingError, StoreError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

ORIGINAL = "docker.io/library/redis:4"
WANTED = Wanted("redis:4-thin")


def test_a_bare_name_is_a_snapshotter_built_into_containerd() -> None:
    found = contestant("overlayfs", WANTED, ORIGINAL)
    assert (found.name, found.snapshotter, found.image) == ("overlayfs", "overlayfs", ORIGINAL)
    assert found.node is None
    assert found.pull == ()


def test_a_known_peer_needs_no_more_than_its_name() -> None:
    found = contestant("stargz", WANTED, ORIGINAL)
    assert (found.node, found.pull) == PEERS["stargz"]


def test_a_command_serves_a_snapshotter() -> None:
    found = contestant("mine=serve --at {socket} --in '{root}/my data'", WANTED, ORIGINAL)
    assert found.node == Proxy(start=("serve", "--at", "{socket}", "--in", "{root}/my data"))


def test_a_path_is_the_socket_of_one_that_runs() -> None:
    assert contestant("mine=/run/mine.sock", WANTED, ORIGINAL).node == Proxy(
        socket="/run/mine.sock"
    )


def test_a_contestant_may_have_another_image_and_another_way_to_pull() -> None:
    wanted = Wanted(
        "app:1",
        images={"stargz": "localhost:5000/app:esgz"},
        pulls={"stargz": "pull --from {image}"},
    )
    found = contestant("stargz", wanted, ORIGINAL)
    assert found.image == "localhost:5000/app:esgz"
    assert found.pull == ("pull", "--from", "{image}")
    assert found.serving == (5000,)


@pytest.mark.parametrize("text", ["", "=serve", "mine=", " = "])
def test_a_contestant_without_a_name_or_a_command_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--against"):
        contestant(text, WANTED, ORIGINAL)


def test_ports_of_loopback_are_found_in_addresses() -> None:
    addresses = ["http://127.0.0.1:8000/", "//localhost:5000/x", "https://[::1]/", "http://a.b:1/"]
    assert loopback_ports(addresses) == (8000, 5000, 443)
    assert not is_loopback("https://registry.example.org")


def test_proxies_on_loopback_are_reached_too() -> None:
    environment = {
        "HTTPS_PROXY": "http://127.0.0.1:3128",
        "http_proxy": "http://proxy.example.org:3128",
        "NO_PROXY": "127.0.0.1:9",
    }
    assert proxy_ports(environment) == {3128}


def test_a_registry_that_is_elsewhere_is_reached_there(tmp_path: Path) -> None:
    (tmp_path / "docker.io").mkdir()
    (tmp_path / "docker.io/hosts.toml").write_text('server = "http://127.0.0.1:5001"\n')
    assert contestant("overlayfs", WANTED, ORIGINAL, [tmp_path]).serving == (5001,)
    assert contestant("overlayfs", WANTED, ORIGINAL).serving == ()


@pytest.mark.parametrize(
    ("help_text", "options"), [("--local  fetch by ctr", ["--local"]), ("--label value", [])]
)
def test_ctr_pulls_by_itself_where_it_would_leave_it_to_containerd(
    help_text: str, options: list[str]
) -> None:
    assert local_pull(help_text) == options


def test_only_known_placeholders_are_replaced() -> None:
    assert replaced("{a}{b} {{a}}", {"a": "1", "b": "{a}"}) == "1{a} {1}"


def test_a_private_daemon_has_paths_of_its_own(tmp_path: Path) -> None:
    thin = Thin(
        allow=("https://a/",), settings=(("cache", "fill", True), ("sources", "mirrors", ("x",)))
    )
    found = configuration(thin, tmp_path)
    assert found["sources"] == {"allow": ["https://a/"], "mirrors": ("x",)}
    assert found["cache"] == {"path": str(tmp_path / "cache"), "fill": True}


@pytest.mark.parametrize("name", ["path", "socket", "mountpoint", "state"])
def test_no_setting_leads_out_of_the_benchmark(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="private"):
        configuration(Thin(settings=(("cache", name, "/var/lib/thinfs"),)), tmp_path)


def test_an_event_of_containerd_has_a_time_a_topic_and_fields() -> None:
    line = (
        '2026-11-21 03:33:29.125 +0000 UTC default /tasks/start {"container_id":"bench","pid":42}\n'
    )
    found = parse_event(line)
    assert found is not None
    assert found.at_unix_s == pytest.approx(1_795_232_009.125)
    assert (found.topic, dict(found.body)) == ("/tasks/start", {"container_id": "bench", "pid": 42})


def test_an_events_zone_is_taken_into_account() -> None:
    plain = parse_event("2026-11-21 03:33:29 +0000 UTC default /a {}")
    other = parse_event("2026-11-21 05:33:29 +0200 EET default /a {}")
    assert plain is not None
    assert other is not None
    assert plain.at_unix_s == other.at_unix_s


@pytest.mark.parametrize("line", ["", "ctr: failed", "2026-11-21 03:33:29 +0000 UTC x /a {oops}"])
def test_other_lines_are_no_events(line: str) -> None:
    assert parse_event(line) is None


def test_messages_show_no_passwords() -> None:
    with pytest.raises(StoreError) as caught:
        run(["sh", "-c", "exit 3", "x", "--user=me:secret"])
    assert "secret" not in str(caught.value)
    assert shown(["ctr", "--user=me:secret", "image"]) == "ctr --user=… image"


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(MissingError, match="no-such-program is not installed"):
        run(["no-such-program"])


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    make_layout(tmp_path / "layout", "one", [tar_layer({"a": b"x" * 1000})])
    return tmp_path / "layout"


def test_a_layout_is_served_as_a_registry_serves_it(layout: Path) -> None:
    images = [Served("bench", layout, "one")]
    manifest = registry.find("/v2/bench/manifests/latest", images)
    assert manifest is not None
    assert manifest.media_type == "application/vnd.oci.image.manifest.v1+json"
    assert registry.find(f"/v2/bench/manifests/{manifest.digest}", images) == manifest
    blob = registry.find(f"/v2/bench/blobs/{manifest.digest}", images)
    assert blob is not None
    assert blob.file == manifest.file


@pytest.mark.parametrize(
    "path",
    [
        "/v2/other/manifests/latest",
        "/v2/bench/manifests/../../index.json",
        "/v2/bench/blobs/sha256:" + "0" * 64,
        "/v2/bench/blobs/sha256:../../index.json",
        "/v2/_catalog",
        "/etc/passwd",
    ],
)
def test_nothing_else_of_it_is_served(layout: Path, path: str) -> None:
    assert registry.find(path, [Served("bench", layout, "one")]) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("bytes=0-0", [(0, 1)]),
        ("bytes=10-19, 90-", [(10, 10), (90, 10)]),
        ("bytes=95-500", [(95, 5)]),
        ("bytes=200-300", []),
        ("bytes=-5", []),
        ("lines=1-2", []),
        ("bytes=1-2,x", []),
    ],
)
def test_ranges_are_read_as_far_as_they_are_there(
    header: str, expected: list[tuple[int, int]]
) -> None:
    assert registry.ranges_of(header, 100) == expected


def test_an_image_to_serve_is_written_and_read_the_same(layout: Path) -> None:
    for tag in ("docker.io/library/redis:4-thin", None):
        image = Served("bench/original", layout, tag)
        assert Served.parse(image.text) == image
    with pytest.raises(UsageError):
        Served.parse("bench")
