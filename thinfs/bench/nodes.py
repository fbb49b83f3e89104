"""What a contestant needs beside containerd, as private processes in a node's network."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import tomli_w

from thinfs.bench.containerd import replaced
from thinfs.bench.processes import Process, accepts
from thinfs.bench.values import Proxy, Thin
from thinfs.control.client import ControlClient
from thinfs.errors import ThinfsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thinfs.bench.network import Network
    from thinfs.bench.values import Contestant

CONTROL_TIMEOUT_S: Final = 30.0
_THINFS: Final = (sys.executable, "-m", "thinfs.cli.main")
_SNAPSHOTTER: Final = (sys.executable, "-m", "snapshotter.main")
_PATHS: Final = frozenset({"path", "mountpoint", "socket", "state"})


@dataclass(frozen=True, slots=True)
class ThinNode:
    """A daemon of ours.

    Attributes:
        control: its control API.
        cache: its cache directory.
        folder: that its processes are marked with.
    """

    control: ControlClient
    cache: Path
    folder: Path


@dataclass(frozen=True, slots=True)
class Node:
    """What runs beside containerd.

    Attributes:
        snapshotters: name → socket for containerd's ``proxy_plugins``.
        thin: the daemon; ``None`` where there is none of ours.
    """

    snapshotters: dict[str, Path]
    thin: ThinNode | None = None


@contextlib.contextmanager
def running(contestant: Contestant, network: Network, folder: Path) -> Iterator[Node]:
    """Run what a contestant needs, with empty caches, while the block runs.

    Args:
        contestant: whose.
        network: all of it runs in its namespace.
        folder: empty; for sockets, caches and logs.

    Raises:
        MissingError: a program is not installed.
        StoreError: one of them does not come up.
    """
    if isinstance(contestant.node, Thin):
        with _thin(contestant.node, contestant.snapshotter, network, folder) as node:
            yield node
    elif isinstance(contestant.node, Proxy):
        with _proxy(contestant.node, contestant.snapshotter, network, folder) as node:
            yield node
    else:
        yield Node({})


@contextlib.contextmanager
def _thin(thin: Thin, name: str, network: Network, folder: Path) -> Iterator[Node]:
    config, control_socket = folder / "config.toml", folder / "d.sock"
    snapshots_socket, cache = folder / "s.sock", folder / "cache"
    config.write_text(tomli_w.dumps(configuration(thin, folder)))
    daemon = [*_THINFS, "--config", str(config), "daemon"]
    snapshotter = [*_SNAPSHOTTER, f"--address={snapshots_socket}", f"--root={folder}/snapshots"]
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(Process(network.argv(daemon), folder=folder, name="daemon"))
        process.wait_ready(lambda: _answers(control_socket), "an answer")
        argv = network.argv([*snapshotter, f"--daemon={control_socket}"])
        process = stack.enter_context(Process(argv, folder=folder, name="snapshotter"))
        process.wait_ready(lambda: accepts(snapshots_socket), "its socket")
        control = stack.enter_context(ControlClient(control_socket, timeout_s=CONTROL_TIMEOUT_S))
        yield Node({name: snapshots_socket}, ThinNode(control, cache, folder))


def _answers(control_socket: Path) -> bool:
    """Whether the daemon serves: somebody may hold its socket before it does."""
    with contextlib.suppress(ThinfsError):
        with ControlClient(control_socket, timeout_s=CONTROL_TIMEOUT_S) as control:
            control.status()
        return True
    return False


def configuration(thin: Thin, folder: Path) -> dict[str, dict[str, Any]]:
    """The configuration of a private daemon.

    Raises:
        UsageError: a setting is a path, which would lead out of the benchmark.
    """
    sections: dict[str, dict[str, Any]] = {
        "repository": {"path": str(folder / "repository")},
        "sources": {"allow": list(thin.allow)},
        "cache": {"path": str(folder / "cache")},
        "daemon": {
            "mountpoint": str(folder / "mnt"),
            "socket": str(folder / "d.sock"),
            "state": str(folder / "state"),
        },
    }
    for section, name, value in thin.settings:
        if name in _PATHS:
            raise UsageError(f"[{section}] {name} is private to each start: leave it out")
        sections.setdefault(section, {})[name] = value
    return sections


@contextlib.contextmanager
def _proxy(proxy: Proxy, name: str, network: Network, folder: Path) -> Iterator[Node]:
    if not proxy.start:
        yield Node({name: Path(proxy.socket)})
        return
    socket, root = folder / "s.sock", folder / "root"
    root.mkdir()
    values = {"socket": str(socket), "root": str(root), "folder": str(folder)}
    for file, text in proxy.files:
        (folder / file).write_text(replaced(text, values))
    argv = network.argv([replaced(part, values) for part in proxy.start])
    with Process(argv, folder=folder, name=name) as process:
        process.wait_ready(lambda: accepts(socket), "its socket")
        yield Node({name: socket})
