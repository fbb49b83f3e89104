"""A containerd of one's own: own root, state, address and log, nothing shared with the system's.

What cannot be moved is named after the namespace: runc's state lies in
``/run/containerd/runc/<namespace>``, so the namespace carries the process id.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Self

from tests.support import needs, sweep
from tests.support.processes import Process, accepts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

COMMAND_TIMEOUT_S = 180.0
STDERR_LINES = 6
_counter = itertools.count(1)

# The plugins that stay out need kernel modules, devices or a network of their own.
_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.gc.v1.scheduler"]
  schedule_delay = "10ms"
  startup_delay = "10ms"
"""
_PROXY = """\
[proxy_plugins.{name}]
  type = "snapshot"
  address = "{socket}"
"""


class CommandError(AssertionError):
    """A client command that failed; the message has its output."""


class Containerd:
    """A running containerd and its clients.

    Args:
        folder: made by :func:`tests.support.sweep.make_folder`, or below such a folder and short:
            containerd keeps unix sockets in it.
        snapshotters: name and socket of proxy snapshotters; started before or after.
        hosts_dir: directory of ``<registry>/hosts.toml`` files for nerdctl and ctr.
    """

    def __init__(
        self,
        folder: Path,
        *,
        snapshotters: Mapping[str, Path] | None = None,
        hosts_dir: Path | None = None,
    ) -> None:
        self.folder = folder
        self.address = folder / "containerd.sock"
        self.namespace = f"{sweep.NAMESPACE}{os.getpid()}-{next(_counter)}"
        self.hosts_dir = hosts_dir
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "containerd.toml"
        config.write_text(
            _CONFIG.format(folder=folder)
            + "".join(
                _PROXY.format(name=name, socket=socket)
                for name, socket in (snapshotters or {}).items()
            )
        )
        self._config = config
        self._process: Process | None = None
        self.start()

    def start(self) -> None:
        """Start, or start again after :meth:`kill`."""
        self._process = Process(
            ["containerd", "--config", self._config, "--log-level", "warn"],
            folder=self.folder,
            name="containerd",
        )
        self._process.wait_ready(lambda: accepts(self.address), "the socket")
        self._process.wait_ready(lambda: self._ctr("version").returncode == 0, "an answer")

    def tail(self) -> str:
        """The end of containerd's log."""
        return self._process.tail(STDERR_LINES) if self._process else ""

    def ctr(self, *args: str | Path, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run ctr; its standard output.

        Raises:
            CommandError: it failed.
        """
        return _checked(self._ctr(*args, timeout_s=timeout_s), self.tail)

    def nerdctl(self, *args: str | Path, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run nerdctl; its standard output.

        Raises:
            CommandError: it failed.
        """
        return _checked(_run(self.nerdctl_argv(*args), self._env, timeout_s), self.tail)

    def ctr_argv(self, *args: str | Path) -> list[str]:
        """The command line for :meth:`ctr`."""
        base = ["ctr", "--address", self.address, "--namespace", self.namespace]
        return [str(part) for part in (*base, *args)]

    def nerdctl_argv(self, *args: str | Path) -> list[str]:
        """The command line for :meth:`nerdctl`: no file of the user's is read or written."""
        base: list[str | Path] = [
            needs.nerdctl(),
            f"--address={self.address}",
            f"--namespace={self.namespace}",
            f"--data-root={self.folder}/nerdctl",
            f"--cni-netconfpath={self.folder}/cni",
            "--cgroup-manager=cgroupfs",
        ]
        if self.hosts_dir:
            base.append(f"--hosts-dir={self.hosts_dir}")
        return [str(part) for part in (*base, *args)]

    def snapshots(self, snapshotter: str) -> list[str]:
        """Keys of all snapshots."""
        table = self.ctr("snapshots", "--snapshotter", snapshotter, "list").splitlines()[1:]
        return [line.split()[0] for line in table]

    def remove_container(self, name: str) -> None:
        """End a container and remove it and its snapshot; no error when it is gone."""
        self._ctr("tasks", "kill", "--signal", "SIGKILL", name)
        self._ctr("tasks", "delete", "--force", name)
        self._ctr("containers", "delete", name)

    def remove_everything(self) -> None:
        """Remove all containers, then all images, and wait for the garbage collection."""
        for name in self.ctr("containers", "list", "--quiet").split():
            self.remove_container(name)
        images = self.ctr("images", "list", "--quiet").split()
        if images:
            self.ctr("images", "remove", "--sync", *images)

    def kill(self) -> None:
        """End containerd as a power cut would; shims and containers stay."""
        if self._process:
            self._process.stop(9)
            self._process = None

    def stop(self) -> None:
        """End all containers and containerd, and unmount what it mounted."""
        if self._process and self._process.running:
            with contextlib.suppress(CommandError, subprocess.TimeoutExpired):
                self.remove_everything()
            self._process.stop()
        self._process = None
        sweep.kill_processes(self.folder)
        sweep.unmount_below(self.folder)
        for base in sweep.RUNTIME:
            shutil.rmtree(base / self.namespace, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _env(self) -> dict[str, str]:
        return {
            **os.environ,
            sweep.MARK: str(self.folder),
            "NERDCTL_TOML": str(self.folder / "nerdctl.toml"),
            "DOCKER_CONFIG": str(self.folder / "docker"),
        }

    def _ctr(
        self, *args: str | Path, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        return _run(self.ctr_argv(*args), self._env, timeout_s)


def _run(
    argv: list[str], env: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env=env,
        timeout=timeout_s,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _checked(done: subprocess.CompletedProcess[str], log: Callable[[], str]) -> str:
    if done.returncode != 0:
        command = " ".join(done.args)
        # What comes before is progress, drawn anew several times a second.
        stderr = "\n".join(done.stderr.splitlines()[-STDERR_LINES:])
        raise CommandError(f"{command}\nexit {done.returncode}: {stderr}\ncontainerd: {log()}")
    return done.stdout
