"""``thinfs profile record`` and the starts after it, with real containers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import needs
from tests.support.bench_image import READ_BYTES, READ_FILES, bench_image
from thinfs.bench import results

if TYPE_CHECKING:
    from thinfs.bench.values import Start

pytestmark = [pytest.mark.containerd, pytest.mark.slow, pytest.mark.timeout(600)]

LINK = "100mbit,10ms"
SLACK_BYTES = 300_000
"""Headers, the image's manifest and configuration, boot record and metadata."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Somebody with a repository of thin images."""

    folder: Path

    def thinfs(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        config = self.folder / "thinfs.toml"
        config.write_text(
            f'[repository]\npath = "{self.folder}/repository"\n[registry]\nhosts_dirs = []\n'
            f'[daemon]\nsocket = "{self.folder}/none.sock"\n'
        )
        command = [sys.executable, "-m", "thinfs.cli.main", "--config", str(config)]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=500, check=False
        )

    def convert(self, layout: str, name: str, *options: str) -> None:
        arguments = ["convert", layout, "--name", name, "--no-containerd", *options]
        self._succeed(*arguments)

    def record(self, name: str, *options: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(
            self._succeed("profile", "record", name, "--no-containerd", "--json", *options)
        )
        return found

    def start(self, name: str) -> Start:
        """A cold start over a slow line."""
        file = self.folder / "result.json"
        self._succeed("bench", name, "--alone", "--runs=1", f"--link={LINK}", f"--json={file}")
        return results.read(file).series[0].cold[0]

    def _succeed(self, *arguments: str) -> str:
        done = self.thinfs(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    needs.containerd()
    return Owner(tmp_path_factory.mktemp("owner"))


@pytest.fixture(scope="module")
def recorded(owner: Owner) -> tuple[dict[str, object], Start, Start]:
    """What a recording says, and starts without and with it."""
    owner.convert(bench_image(owner.folder / "first"), "app:1")
    before = owner.start("app:1")
    told = owner.record("app:1", "--save", str(owner.folder / "app.profile"))
    return told, before, owner.start("app:1")


def test_exactly_what_is_read_is_recorded(
    owner: Owner, recorded: tuple[dict[str, object], Start, Start]
) -> None:
    told = recorded[0]
    assert told["contents"] == READ_FILES + 1  # and busybox
    touched = json.loads((owner.folder / "app.profile").read_text())["touched"]
    paths = {each["path"] for each in touched}
    assert paths == {"bin/busybox", *(f"data/{number:03d}" for number in range(READ_FILES))}


def test_a_profiled_start_fetches_little_more_than_it_reads(
    recorded: tuple[dict[str, object], Start, Start],
) -> None:
    _, before, after = recorded
    assert after.traffic.bytes < before.traffic.bytes
    assert after.traffic.bytes < READ_BYTES * 1.15 + busybox_bytes() + SLACK_BYTES
    assert after.details is not None
    assert after.details.unread_bytes is not None
    assert after.details.unread_bytes < SLACK_BYTES


def test_a_profiled_start_waits_less(recorded: tuple[dict[str, object], Start, Start]) -> None:
    _, before, after = recorded
    assert len(waited(after)) < len(waited(before))


def test_the_next_version_of_an_image_starts_by_the_profile_of_the_last(
    owner: Owner, recorded: tuple[dict[str, object], Start, Start]
) -> None:
    layout = bench_image(owner.folder / "second", changed=True)
    owner.convert(layout, "app:plain", "--no-profile")
    owner.convert(layout, "app:2", "--profile", str(owner.folder / "app.profile"))
    plain, helped = owner.start("app:plain"), owner.start("app:2")
    assert len(waited(helped)) < len(waited(plain))
    assert helped.traffic.bytes < plain.traffic.bytes


def test_recordings_are_merged(
    owner: Owner, recorded: tuple[dict[str, object], Start, Start]
) -> None:
    assert owner.record("app:1", "--", "sh", "-c", "cat /data/*")["runs"] == 2
    again = owner.record("app:1", "--fresh", "--", "sh", "-c", "cat /data/000 /data/001")
    assert (again["runs"], again["contents"]) == (1, 3)


def test_what_is_recorded_must_go_somewhere(
    owner: Owner, recorded: tuple[dict[str, object], Start, Start]
) -> None:
    done = owner.thinfs("profile", "record", "app:1", "--no-publish")
    assert done.returncode == 2
    assert "give --save FILE" in done.stderr


def test_recording_from_live_use_needs_the_daemon(
    owner: Owner, recorded: tuple[dict[str, object], Start, Start]
) -> None:
    done = owner.thinfs("profile", "record", "app:1", "--live")
    assert done.returncode != 0
    assert "none.sock" in done.stderr
    assert "Traceback" not in done.stderr


def waited(start: Start) -> set[str]:
    """Paths that somebody waited for."""
    assert start.details is not None
    return {wait.path for wait in start.details.waits}


def busybox_bytes() -> int:
    """At most what the program takes, compressed."""
    return Path(needs.command("busybox", "busybox-static")).stat().st_size
