"""The containerd that is installed reads what ``thinfs install`` writes, and uses it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Process, accepts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.containerd

USERS = """\
# the user's own file
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]

[grpc]
  address = "{folder}/containerd.sock"   # beside all else
"""


@pytest.fixture
def image(folder: Path) -> Path:
    """A root directory with a containerd configuration."""
    root = folder / "image"
    (root / "etc/containerd").mkdir(parents=True)
    (root / "etc/containerd/config.toml").write_text(USERS.format(folder=folder))
    return root


def install(image: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thinfs.cli.main", "install", "--root", str(image), *options],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def start_containerd(image: Path, folder: Path) -> Process:
    config = image / "etc/containerd/config.toml"
    process = Process(["containerd", "--config", config], folder=folder, name="containerd")
    address = folder / "containerd.sock"
    version = ["ctr", "--address", str(address), "version"]
    process.wait_ready(lambda: accepts(address), "the socket")
    process.wait_ready(
        lambda: subprocess.run(version, capture_output=True, check=False).returncode == 0,
        "an answer",
    )
    return process


@pytest.fixture
def ctr(folder: Path) -> Callable[..., str]:
    def run(*args: str) -> str:
        command = ["ctr", "--address", str(folder / "containerd.sock"), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run


def plugins(table: str) -> dict[str, str]:
    """Snapshotters of ``ctr plugins ls`` and their status."""
    rows = [line.split() for line in table.splitlines()]
    return {row[1]: row[-1] for row in rows if row and row[0] == "io.containerd.snapshotter.v1"}


def test_the_plugin_is_listed_after_installing_and_gone_after_uninstalling(
    image: Path, folder: Path, ctr: Callable[..., str]
) -> None:
    ran = install(image, "--yes")
    assert ran.returncode == 0, ran.stderr
    with start_containerd(image, folder):
        assert plugins(ctr("plugins", "ls"))["thin"] == "ok"
    assert install(image, "--uninstall", "--yes").returncode == 0
    assert (image / "etc/containerd/config.toml").read_text() == USERS.format(folder=folder)
    with start_containerd(image, folder):
        assert "thin" not in plugins(ctr("plugins", "ls"))


def test_containerd_reaches_the_snapshotter_through_the_written_entry(
    image: Path, folder: Path, ctr: Callable[..., str]
) -> None:
    assert install(image, "--yes").returncode == 0
    drop_in = image / "etc/containerd/conf.d/thinfs.toml"
    socket = folder / "thin.sock"
    # the system's own address belongs to the system; all else stays as it was written
    drop_in.write_text(drop_in.read_text().replace("/run/thinfs/snapshotter.sock", str(socket)))
    snapshotter = Process(
        [
            *(sys.executable, "-m", "snapshotter.main", "--address", socket),
            *("--root", folder / "snapshots", "--daemon", folder / "none.sock"),
        ],
        folder=folder,
        name="thin-snapshotter",
    )
    with snapshotter, contextlib.ExitStack() as later:
        snapshotter.wait_ready(lambda: accepts(socket), "the socket")
        later.enter_context(start_containerd(image, folder))
        ctr("snapshots", "--snapshotter", "thin", "prepare", "work")
        assert "work" in ctr("snapshots", "--snapshotter", "thin", "list")
        ctr("snapshots", "--snapshotter", "thin", "remove", "work")


def test_a_file_that_hides_the_plugin_is_noticed_before_anything_is_kept(image: Path) -> None:
    main = image / "etc/containerd/config.toml"
    other = image / "etc/containerd/other.toml"
    other.write_text('[proxy_plugins.thin]\ntype = "snapshot"\naddress = "/another.sock"\n')
    text = main.read_text().replace("version = 2", 'version = 2\nimports = ["other.toml"]')
    main.write_text(text)
    ran = install(image, "--yes")
    assert ran.returncode == 2
    assert "does not see the snapshotter" in ran.stderr
    assert main.read_text() == text
    assert not (image / "etc/containerd/conf.d").exists()


def test_the_same_is_noticed_when_the_users_imports_read_our_file_already(image: Path) -> None:
    main = image / "etc/containerd/config.toml"
    other = image / "etc/containerd/other.toml"
    other.write_text('[proxy_plugins.thin]\ntype = "snapshot"\naddress = "/another.sock"\n')
    imports = 'imports = ["conf.d/thinfs.toml", "other.toml"]'
    main.write_text(main.read_text().replace("version = 2", f"version = 2\n{imports}"))
    ran = install(image, "--yes")
    assert ran.returncode == 2
    assert "does not see the snapshotter" in ran.stderr
    assert not (image / "etc/containerd/conf.d").exists()
    other.write_text("")
    assert install(image, "--yes").returncode == 0


def test_a_configuration_that_containerd_refuses_is_left_alone(image: Path) -> None:
    main = image / "etc/containerd/config.toml"
    text = main.read_text().replace("version = 2", 'version = 2\noom_score = "high"')
    main.write_text(text)
    ran = install(image, "--yes")
    assert ran.returncode == 2
    assert "containerd refuses the new configuration" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert main.read_text() == text
