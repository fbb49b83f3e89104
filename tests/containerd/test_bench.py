"""``thinfs bench`` from the command line to its files, with real containers."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
import tomli_w

from tests.support import needs
from tests.support.bench_image import READ_BYTES, UNREAD_BYTES, bench_image
from tests.support.processes import free_port
from tests.support.registry import start_registry
from tests.support.servers import thinfs_serve
from thinfs.bench import results
from thinfs.bench.contestants import Wanted, lineup
from thinfs.bench.measure import Plan, measure_in
from thinfs.bench.processes import run
from thinfs.bench.scratch import LOCKS, scratch
from thinfs.bench.values import Ready, Report
from thinfs.config import Config
from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registry import Registry
    from thinfs.bench.contestants import Lineup
    from thinfs.bench.scratch import Scratch
    from thinfs.bench.values import Start

pytestmark = [pytest.mark.containerd, pytest.mark.slow, pytest.mark.timeout(600)]

AGREE = 0.03
"""How far the daemon's count and the line's may be apart."""

CONFIG = "thinfs.toml"
IMAGE = "registry.test/team/app"
USER, PASSWORD = "me", "pass-word"
BCRYPT = "$2y$04$abcdefghijklmnopqrstuuudBIGi88QUaH8UOst3i3n1jdKYDf0WW"


@dataclass(frozen=True, slots=True)
class Written:
    """What one call of the command has written."""

    report: Report
    folder: Path
    stdout: str


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    needs.containerd()
    return bench_image(tmp_path_factory.mktemp("image") / "layout")


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a configuration that knows nothing of this machine."""
    config = folder / CONFIG
    config.write_text(f'[repository]\npath = "{folder}/none"\n[registry]\nhosts_dirs = []\n')
    command = [sys.executable, "-m", "thinfs.cli.main", "--config", str(config), "bench"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=500, check=False
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """Where thinfs alone is measured: its images are served."""

    place: Scratch
    lineup: Lineup

    def plan(self, ready: Ready, script: str, timeout_s: float = 60) -> Plan:
        command = ("sh", "-c", script)
        return Plan("image", self.lineup.contestants, command, ready, runs=1, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class Private:
    """A registry with a login, a repository, and a configuration that knows both."""

    folder: Path
    registry: Registry
    port: int = field(default_factory=free_port)

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def thinfs(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        config = self.folder / CONFIG
        sections = {
            "repository": {"path": str(self.repository)},
            "registry": {
                "hosts_dirs": [str(self.folder / "hosts")],
                "docker_config": str(self.folder / "docker.json"),
            },
        }
        config.write_text(tomli_w.dumps(sections))
        command = [sys.executable, "-m", "thinfs.cli.main", "--config", str(config)]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=500, check=False
        )


@pytest.fixture(scope="module")
def stage(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    base = tmp_path_factory.mktemp("stage")
    with scratch(base) as place, lineup(Wanted(image), Config(), place, _silent) as found:
        yield Stage(place, found)


@pytest.fixture(scope="module", params=["1gbit,1ms", "100mbit,10ms"])
def written(
    request: pytest.FixtureRequest, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Written:
    folder = tmp_path_factory.mktemp("written")
    files = [f"--{kind}={folder}/r.{kind}" for kind in ("json", "junit", "markdown", "html")]
    done = bench(folder, image, "--runs=1", "--warm", f"--link={request.param}", *files)
    assert done.returncode == 0, done.stderr
    return Written(results.read(folder / "r.json"), folder, done.stdout)


def start_of(written: Written, name: str) -> Start:
    return next(each.cold[0] for each in written.report.series if each.name == name)


def test_every_part_of_a_start_comes_after_the_one_before(written: Written) -> None:
    assert [each.name for each in written.report.series] == ["thin", "overlayfs"]
    for series in written.report.series:
        for start in (*series.cold, *series.warm):
            assert start.pulled_s <= start.created_s <= start.started_s <= start.ready_s
            assert start.pulled_s >= 0


def test_overlayfs_pulls_the_whole_image_and_thinfs_what_is_read(written: Written) -> None:
    whole = start_of(written, "overlayfs").traffic
    lazy = start_of(written, "thin").traffic
    assert whole.bytes > READ_BYTES + UNREAD_BYTES
    assert READ_BYTES < lazy.bytes < whole.bytes - UNREAD_BYTES / 2
    assert whole.requests
    assert lazy.connections > 0


def test_a_warm_start_transfers_nothing(written: Written) -> None:
    for series in written.report.series:
        assert series.warm[0].traffic.bytes < 2_000
        assert series.warm[0].pulled_s < 0.05


def test_the_daemons_count_and_the_lines_agree(written: Written) -> None:
    start = start_of(written, "thin")
    details = start.details
    assert details is not None
    bodies = start.traffic.settled_bytes - start.traffic.settled_header_bytes
    assert details.settled_bytes <= bodies
    assert bodies - details.settled_bytes <= AGREE * bodies


def test_a_line_is_not_outrun(written: Written) -> None:
    assert written.report.link is not None
    start = start_of(written, "overlayfs")
    assert start.pulled_s >= start.traffic.bytes / (written.report.link.bits_per_s / 8)


def test_what_is_written_says_the_same(written: Written) -> None:
    ready = f"{start_of(written, 'thin').ready_s:.2f} s"
    assert ready in written.stdout
    assert ready in (written.folder / "r.html").read_text()
    assert ready in (written.folder / "r.markdown").read_text()
    cases = ET.fromstring((written.folder / "r.junit").read_text()).findall(".//testcase")
    assert len(cases) == 4
    assert json.loads((written.folder / "r.json").read_text())["changes"] == []


def test_nothing_is_left_behind(written: Written) -> None:
    assert "bench" not in json.dumps(run(["ip", "netns"])) or list(LOCKS.glob("*.folder"))
    assert not list(written.folder.glob("thinfs-bench-*"))


@pytest.mark.parametrize(
    ("ready", "script"),
    [
        (
            Ready("line", "ready [0-9]+"),
            "sleep 0.3; echo not yet; sleep 0.3; echo I am ready 1; sleep 99",
        ),
        (Ready("line", "ready [0-9]+"), "sleep 0.3; sleep 0.3; echo -n ready 2"),
        (Ready("tcp", "7391"), "sleep 0.6; nc -l -p 7391 -e sleep 99"),
        (Ready("http", "http://127.0.0.1:7392/"), "sleep 0.6; httpd -f -p 7392 -h /www"),
        (Ready(), "sleep 0.6"),
    ],
    ids=["line", "last line", "tcp", "http", "exit"],
)
def test_a_container_is_ready_when_it_says_so(stage: Stage, ready: Ready, script: str) -> None:
    start = measure_in(stage.place, stage.plan(ready, script)).series[0].cold[0]
    assert 0.55 < start.ready_s - start.started_s < 5
    if "echo not yet" in script:
        assert start.output_s is not None
        assert start.output_s < start.ready_s - 0.2


@pytest.mark.parametrize(
    ("ready", "script", "message"),
    [
        (Ready(), "echo oh no; exit 3", "ended with status 3 .*oh no"),
        (Ready("line", "never"), "echo oh no", "ended with status 0 .*oh no"),
        (Ready("tcp", "7393"), "echo oh no; sleep 99", "not ready after 2 s.*oh no"),
    ],
    ids=["exit", "line", "timeout"],
)
def test_one_that_is_never_ready_is_an_error_with_its_last_words(
    stage: Stage, ready: Ready, script: str, message: str
) -> None:
    timeout_s = 2 if "2 s" in message else 60
    with pytest.raises(StoreError, match=message):
        measure_in(stage.place, stage.plan(ready, script, timeout_s=timeout_s))


def test_a_snapshotter_of_others_is_given_by_its_command(tmp_path: Path, image: str) -> None:
    """Ours stands in for it, as a stranger would: by its command line alone."""
    serve = f"{sys.executable} -m snapshotter.main --address={{socket}} --root={{root}}"
    wanted = Wanted(image, against=(f"stranger={serve} --daemon={{folder}}/none.sock",))
    with scratch(tmp_path) as place, lineup(wanted, Config(), place, _silent) as found:
        plan = Plan(image, found.contestants, (), Ready(), runs=1, timeout_s=60)
        report = measure_in(place, plan)
    assert [each.name for each in report.series] == ["thin", "stranger"]
    stranger = report.series[1].cold[0]
    assert stranger.traffic.bytes > READ_BYTES + UNREAD_BYTES
    assert stranger.details is None


@pytest.fixture(scope="module")
def private(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    """The image in a registry that asks who pulls, under a name that is nobody's address."""
    folder = tmp_path_factory.mktemp("private")
    (folder / "users").write_text(f"{USER}:{BCRYPT}\n")
    with start_registry(folder, htpasswd=folder / "users") as registry:
        skopeo = ("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false")
        target = f"docker://{registry.address}/team/app:1"
        run([*skopeo, f"--dest-creds={USER}:{PASSWORD}", image, target])
        hosts = folder / "hosts/registry.test"
        hosts.mkdir(parents=True)
        server = f"http://{registry.address}"
        (hosts / "hosts.toml").write_text(f'server = "{server}"\n[host."{server}"]\n')
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        docker = {"auths": {registry.address: {"auth": login}}}
        (folder / "docker.json").write_text(json.dumps(docker))
        made = Private(folder, registry)
        url = made.url
        converted = made.thinfs("convert", f"{IMAGE}:1", "--url", url, "--push", f"{IMAGE}:1-thin")
        assert converted.returncode == 0, converted.stderr
        yield made


def test_a_private_registry_and_a_served_repository_are_measured(private: Private) -> None:
    with thinfs_serve(private.repository, f"--listen=127.0.0.1:{private.port}"):
        shutil.move(private.repository / "oci", private.folder / "oci")  # the registry has it
        try:
            done = private.thinfs(
                "bench", f"{IMAGE}:1-thin", "--runs=1", f"--json={private.folder}/r.json"
            )
        finally:
            shutil.move(private.folder / "oci", private.repository / "oci")
    assert done.returncode == 0, done.stderr
    report = results.read(private.folder / "r.json")
    assert [each.image.partition("@")[0] for each in report.series] == [
        f"{IMAGE}:1-thin",
        f"{IMAGE}:1",
    ]
    assert PASSWORD not in (private.folder / "r.json").read_text() + done.stderr


def test_an_image_converted_on_this_machine_is_served_to_the_node(private: Private) -> None:
    file = private.folder / "r.json"
    done = private.thinfs("bench", f"{IMAGE}:1", "--alone", "--runs=1", f"--json={file}")
    assert done.returncode == 0, done.stderr
    report = results.read(file)
    assert any(f"{IMAGE}:1-thin of {private.repository}" in note for note in report.notes)
    assert report.series[0].cold[0].traffic.bytes > READ_BYTES


@pytest.mark.parametrize("written", ["100mbit,10ms"], indirect=True)
def test_a_worse_result_than_the_baselines_has_its_own_exit_code(
    tmp_path: Path, image: str, written: Written
) -> None:
    series = written.report.series[0]
    faster = tuple(replace(each, ready_s=each.ready_s / 10) for each in series.cold)
    before = replace(written.report, series=(replace(series, cold=faster),))
    results.write(before, tmp_path / "before.json")
    options = (f"--baseline={tmp_path}/before.json", "--max-regress=50%", "--link=100mbit,10ms")
    done = bench(tmp_path, image, "--alone", "--runs=1", *options)
    assert done.returncode == 8, done.stderr
    assert "worse: thin cold ready" in done.stdout


def _silent(_: str) -> None:
    """Steps that nobody wants to hear of."""
