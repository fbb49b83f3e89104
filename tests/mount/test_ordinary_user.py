"""Mounting without being root, through fusermount3."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import needs
from tests.support.processes import Process
from tests.support.repositories import directory, file, tree
from tests.support.sites import is_gone
from tests.support.sweep import MARK
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.sites import Site

pytestmark = pytest.mark.mount

NOBODY = 65534


@pytest.fixture
def machine(folder: Path) -> Iterator[Process]:
    """Mounts of its own, in which anybody may open /dev/fuse, as udev sees to on most machines."""
    needs.command("fusermount3", "fuse3")
    for name in ("setpriv", "unshare", "nsenter"):
        needs.command(name, "util-linux")
    script = (
        f"mknod -m 666 {folder}/fuse c 10 229 && mount --bind {folder}/fuse /dev/fuse"
        " && echo ready && exec sleep infinity"
    )
    unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with Process(unshare, folder=folder, name="machine") as process:
        process.wait_ready(lambda: "ready" in process.log.read_text(), "its mounts")
        yield process


@pytest.fixture
def home(folder: Path) -> Path:
    """A home that belongs to nobody, with a mountpoint in it."""
    folder.chmod(0o755)
    home = folder / "home"
    for path in (home, home / "redis"):
        path.mkdir()
        os.chown(path, NOBODY, NOBODY)
    return home


@pytest.fixture
def nobody(machine: Process, home: Path) -> User:
    """Runs commands as an ordinary user."""
    return User(machine, home)


class User:
    """An ordinary user of a machine.

    Attributes:
        machine: whose mounts they see.
        home: theirs.
    """

    def __init__(self, machine: Process, home: Path) -> None:
        self.machine = machine
        self.home = home

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        enter = ["nsenter", "--target", str(self.machine.pid), "--mount", "--wd=/", "--"]
        setpriv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        env = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.startswith("/")),
            MARK: str(self.home.parent),
        }
        return subprocess.run(
            [*enter, *setpriv, *command],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def sees_mount(self, directory: Path) -> bool:
        """Whether a file system of ours is mounted at a directory, for them."""
        mounts = Path(f"/proc/{self.machine.pid}/mountinfo").read_text()
        return f" {directory} " in mounts


@pytest.fixture
def thinfs(nobody: User) -> list[str]:
    """The command with a Python that an ordinary user can run, and can run again from itself."""
    again = (
        "import subprocess, sys, pyfuse3; subprocess.run([sys.executable, '-c', ''], check=True)"
    )
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, system):
        if nobody.run(python, "-c", again).returncode == 0:
            return [python, "-m", "thinfs.cli.main"]
    return needs.impossible("other users can run no Python that has what thinfs needs")


def test_an_ordinary_user_mounts_with_a_cache_of_their_own(
    site: Site, nobody: User, thinfs: list[str]
) -> None:
    root = site.root(tree(directory(b""), file(b"f", b"body\n")))
    recipe, at = site.recipe(root), nobody.home / "redis"
    allow = site.repository.as_uri()
    done = nobody.run(*thinfs, "mount", "--allow", allow, recipe, at)
    assert done.returncode == 0, done.stderr
    assert nobody.sees_mount(at)
    assert nobody.run("cat", at / "f").stdout == "body\n"
    assert (nobody.home / ".local/share/thinfs/cache/state.sqlite").exists()
    refused = nobody.run(*thinfs, "umount", "/proc")
    assert refused.returncode == 2
    assert nobody.run(*thinfs, "umount", at).returncode == 0
    assert not nobody.sees_mount(at)
    (log,) = (nobody.home / ".local/share/thinfs/daemon/mounts").iterdir()
    wait_until(lambda: f"unmounted {at}" in log.read_text(), "the process to end")


def test_the_reason_of_fusermount_reaches_the_user(
    site: Site, nobody: User, thinfs: list[str]
) -> None:
    root = site.root(tree(directory(b""), file(b"f", b"body\n")))
    (site.folder / "roots-own").mkdir()
    done = nobody.run(
        *thinfs,
        *("mount", "--allow", site.repository.as_uri()),
        *(site.recipe(root), site.folder / "roots-own"),
    )
    assert done.returncode == 7
    assert "cannot mount at" in done.stderr
    assert "fusermount3: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_ordinary_users_daemon_outlives_its_workers(nobody: User, thinfs: list[str]) -> None:
    script = f"{shlex.join([*thinfs, 'daemon'])} >{nobody.home}/log 2>&1 & echo $!"
    daemon = int(nobody.run("sh", "-c", script).stdout)

    def worker() -> dict[str, Any]:
        done = nobody.run(*thinfs, "status", "--json")
        found = json.loads(done.stdout)["worker"] if done.returncode == 0 else {}
        assert isinstance(found, dict)
        return found

    wait_until(lambda: bool(worker()), "the daemon to answer")
    first = worker()
    assert nobody.sees_mount(nobody.home / ".local/share/thinfs/run/mnt")
    os.kill(first["pid"], signal.SIGKILL)
    assert worker()["number"] == first["number"] + 1
    assert nobody.run("ls", nobody.home / ".local/share/thinfs/run/mnt").stdout == (
        "contents\ntrees\n"
    )
    os.kill(daemon, signal.SIGTERM)
    wait_until(lambda: is_gone(daemon), "the daemon to end")
    assert not nobody.sees_mount(nobody.home / ".local/share/thinfs/run/mnt")
