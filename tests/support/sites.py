"""A node in a folder of its own: repository, configuration, mounts and daemon as processes."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from tests.support.processes import Process
from tests.support.repositories import make_root
from tests.support.wait import wait_until
from thinfs.control.client import ControlClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.repositories import MadeRoot, Tree

THINFS = (sys.executable, "-m", "thinfs.cli.main")


class Site:
    """Everything of one node below ``folder``; nothing of the user's is touched.

    Args:
        folder: made by the fixture of that name.
        sections: of the configuration, merged over what belongs into the folder.

    Attributes:
        daemon_command: runs the daemon, if it is not ``thinfs daemon``.
    """

    def __init__(self, folder: Path, **sections: dict[str, Any]) -> None:
        self.folder = folder
        self._mounts = 0
        self.daemon_command: list[str] = []
        self.repository = folder / "repository"
        self.socket = folder / "daemon.sock"
        self.mountpoint = folder / "mnt"
        self.cache = folder / "cache"
        self.config = folder / "config.toml"
        values: dict[str, dict[str, Any]] = {
            "repository": {"path": str(self.repository)},
            "sources": {"timeout_s": 2.0, "connect_timeout_s": 2.0, "attempts": 1},
            "cache": {"path": str(self.cache)},
            "daemon": {
                "mountpoint": str(self.mountpoint),
                "socket": str(self.socket),
                "state": str(folder / "state"),
            },
        }
        for name, section in sections.items():
            values.setdefault(name, {}).update(section)
        self.config.write_text(tomli_w.dumps(values))

    def command(self, *arguments: str | Path) -> list[str]:
        """A thinfs command with this site's configuration."""
        return [*THINFS, "--config", str(self.config), *(str(each) for each in arguments)]

    def root(self, tree: Tree, **values: Any) -> MadeRoot:
        """Put a tree into the repository."""
        return make_root(self.repository, tree, **values)

    def recipe(self, root: MadeRoot) -> Path:
        """The recipe as a file."""
        path = self.folder / f"{root.id}.json"
        path.write_text(root.text)
        return path

    @contextmanager
    def mounted(self, root: MadeRoot, *options: str) -> Iterator[Path]:
        """A root mounted in the foreground by a process of its own."""
        with self.mounting(root, *options) as (process, directory):
            process.wait_ready(lambda: serves(process), "the mount")
            yield directory

    @contextmanager
    def mounting(self, root: MadeRoot, *options: str) -> Iterator[tuple[Process, Path]]:
        """The process that mounts a root, and where."""
        directory = self.folder / "root"
        if directory not in self.folder.iterdir():  # a look at it would fail when it is dead
            directory.mkdir()
        command = self.command(
            "mount", "--foreground", *options, str(self.recipe(root)), str(directory)
        )
        self._mounts += 1
        name = f"mount-{self._mounts}"  # a log of its own: what it says tells that it serves
        with Process(command, folder=self.folder, name=name, check_log=True) as process:
            yield process, directory

    @contextmanager
    def daemon(self, name: str = "daemon") -> Iterator[Process]:
        """A daemon that answers."""
        command = self.daemon_command or self.command("-v", "daemon")
        with Process(command, folder=self.folder, name=name, check_log=True) as process:
            process.wait_ready(lambda: self.answers(process.pid), "the control API")
            yield process

    def answers(self, pid: int) -> bool:
        """Whether this daemon answers, and not a worker that an earlier one has left."""
        try:
            with self.client() as client:
                return client.status().pid == pid
        except Exception:
            return False

    def kill_daemon(self, process: Process) -> None:
        """Kill the supervisor and then its worker: nothing is left that could serve."""
        with self.client() as client:
            worker = client.status().worker.pid
        process.stop(signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: is_gone(worker), "the worker to be gone")

    def client(self) -> ControlClient:
        """A client of the daemon."""
        return ControlClient(self.socket, timeout_s=30.0)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, also when its parent has not noticed yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "XZ"


def is_mounted(directory: Path) -> bool:
    """Whether a file system of ours is mounted at exactly this directory."""
    text = Path("/proc/self/mountinfo").read_text()
    return any(
        line.split()[4] == str(directory) and " fuse.thinfs " in line for line in text.splitlines()
    )


def serves(process: Process) -> bool:
    """Whether a ``thinfs mount --foreground`` has said that its mount answers."""
    return " is mounted at " in process.log.read_text()
