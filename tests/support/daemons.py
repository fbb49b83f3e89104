"""``thinfs`` and ``thin-snapshotter`` as a node runs them: real processes, own configuration."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

import tomli_w

from tests.support import sweep
from tests.support.processes import Process, accepts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CONTROL_TIMEOUT_S = 10.0
_THINFS = [sys.executable, "-m", "thinfs.cli.main"]
_SNAPSHOTTER = [sys.executable, "-m", "snapshotter.main"]


class ThinfsError(AssertionError):
    """A thinfs command that failed; the message has its standard error."""


class Node:
    """A worker node: configuration, ``thinfs daemon`` and ``thin-snapshotter``.

    Args:
        folder: made by :func:`tests.support.sweep.make_folder`, or below such a folder.
        hosts_dir: directory of ``<registry>/hosts.toml`` files.
        allow: repositories that may be contacted.
        settings: sections of the configuration to add or to change.

    Attributes:
        daemon_command: runs the daemon, if it is not ``thinfs daemon``.
        repository: directory that ``thinfs convert`` writes.
        snapshotter_socket: for containerd's ``proxy_plugins``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        hosts_dir: Path | None = None,
        allow: Sequence[str] = (),
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.daemon_command: list[str] = []
        self.repository = folder / "repository"
        self.snapshotter_socket = folder / "s.sock"
        self.control_socket = folder / "d.sock"
        self.config = folder / "config.toml"
        self._daemon: Process | None = None
        self._snapshotter: Process | None = None
        self._write_config(hosts_dir, allow, settings or {})

    def thinfs(self, *args: str | Path, timeout_s: float = 600.0) -> str:
        """Run a thinfs command with this node's configuration; its standard output.

        Raises:
            ThinfsError: it failed.
        """
        done = subprocess.run(
            self.thinfs_argv(*args),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            raise ThinfsError(f"thinfs {args}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def thinfs_argv(self, *args: str | Path) -> list[str]:
        """The command line for :meth:`thinfs`."""
        return [*_THINFS, "--config", str(self.config), *map(str, args)]

    def start_daemon(self) -> None:
        """Start ``thinfs daemon`` and wait until it answers."""
        command = self.daemon_command or self.thinfs_argv("daemon")
        self._daemon = Process(command, folder=self.folder, name="daemon", check_log=True)
        self._daemon.wait_ready(lambda: accepts(self.control_socket), "the control socket")

    def start_snapshotter(self) -> None:
        """Start ``thin-snapshotter`` and wait until it accepts connections."""
        self._snapshotter = Process(
            [
                *_SNAPSHOTTER,
                f"--address={self.snapshotter_socket}",
                f"--root={self.folder / 'snapshots'}",
                f"--daemon={self.control_socket}",
            ],
            folder=self.folder,
            name="snapshotter",
            check_log=True,
        )
        self._snapshotter.wait_ready(lambda: accepts(self.snapshotter_socket), "the socket")

    @property
    def daemon(self) -> Process:
        """The running daemon."""
        assert self._daemon is not None, "start_daemon() first"
        return self._daemon

    @property
    def snapshotter(self) -> Process:
        """The running snapshotter."""
        assert self._snapshotter is not None, "start_snapshotter() first"
        return self._snapshotter

    def status(self) -> dict[str, Any]:
        """The daemon's status (``thinfs.control.values.Status``)."""
        connection = _UnixConnection(self.control_socket)
        try:
            connection.request("GET", "/v1/status")
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        assert answer.status == http.HTTPStatus.OK, body
        status: dict[str, Any] = json.loads(body)
        return status

    def logs(self) -> str:
        """The ends of both logs."""
        return "\n".join(
            f"--- {process.name}\n{process.tail()}"
            for process in (self._daemon, self._snapshotter)
            if process
        )

    def stop(self) -> None:
        """Stop both, the snapshotter first, and unmount what is left."""
        for process in (self._snapshotter, self._daemon):
            if process:
                process.stop()
        self._snapshotter = self._daemon = None
        sweep.unmount_below(self.folder)

    def __enter__(self) -> Self:
        self.start_daemon()
        self.start_snapshotter()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_config(
        self,
        hosts_dir: Path | None,
        allow: Sequence[str],
        settings: Mapping[str, Mapping[str, Any]],
    ) -> None:
        sections: dict[str, dict[str, Any]] = {
            "repository": {"path": str(self.repository)},
            "registry": {
                "hosts_dirs": [str(hosts_dir)] if hosts_dir else [],
                "docker_config": str(self.folder / "docker.json"),
            },
            "sources": {"allow": list(allow)},
            "cache": {"path": str(self.folder / "cache")},
            "daemon": {
                "mountpoint": str(self.folder / "mnt"),
                "socket": str(self.control_socket),
                "state": str(self.folder / "state"),
            },
        }
        for name, values in settings.items():
            sections.setdefault(name, {}).update(values)
        self.config.write_text(tomli_w.dumps(sections))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CONTROL_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CONTROL_TIMEOUT_S)
        self.sock.connect(str(self._path))
