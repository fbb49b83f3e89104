"""Containers go on while everything that serves them is killed, replaced or restarted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support import sweep
from tests.support.containerd import CommandError, Containerd
from tests.support.converted import files_of
from tests.support.daemons import Node
from tests.support.processes import free_port
from tests.support.redis_client import ask, is_ready
from tests.support.redis_image import redis_image
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.containerd,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.expects_log(
        "another one takes over its mount|have ended at once|the supervisor is gone"
    ),
]

THIN = "docker.io/library/redis:thin"
PATIENCE_S = 60.0
READERS = 2
STEPS = 6


@dataclass(frozen=True, slots=True)
class World:
    """A node with a containerd, and the thin image of Redis."""

    folder: Path
    node: Node
    containerd: Containerd

    def run_redis(self, name: str) -> int:
        """Start Redis, which writes what it is told to a file; gives its port."""
        port = free_port()
        command = (
            *("run", "--detach", "--net-host", "--snapshotter=thin", THIN, name),
            *("redis-server", "--port", str(port), "--save", "", "--appendonly", "yes"),
        )
        wait_until(lambda: self._ran(command), "containerd to find the snapshotter")
        wait_until(lambda: is_ready(port), f"Redis in {name}")
        return port

    def _ran(self, command: tuple[str, ...]) -> bool:
        """Run it, unless containerd's connection is still that to the snapshotter before."""
        try:
            self.containerd.ctr(*command)
        except CommandError as error:
            if "unavailable" in str(error):
                return False
            raise
        return True

    def rootfs(self, name: str) -> Path:
        """A container's root as it sees it."""
        state = self.containerd.folder / "state/io.containerd.runtime.v2.task"
        return state / self.containerd.namespace / name / "rootfs"

    def files(self) -> dict[str, bytes]:
        """Digests of all files of the image, by path."""
        (record,) = (self.node.repository / "roots").rglob("*[0-9a-f]")
        digest = json.loads(record.read_text())["catalog"]["digest"]
        found = files_of(self.node.repository, digest)
        return {os.fsdecode(p): hashlib.sha256(body).digest() for p, body in found.items()}


@pytest.fixture(params=["native", "tree"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    folder = sweep.make_folder("over")
    with contextlib.ExitStack() as stack:
        stack.callback(sweep.sweep_folder, folder)
        node = Node(folder / "n", settings={"daemon": {"root_mode": request.param}})
        stack.enter_context(node)
        snapshotters = {"thin": node.snapshotter_socket}
        containerd = stack.enter_context(Containerd(folder / "c", snapshotters=snapshotters))
        node.thinfs(
            *("convert", redis_image().source, "--name", THIN, "--containerd"),
            *("--containerd-address", containerd.address, "--namespace", containerd.namespace),
        )
        yield World(folder, node, containerd)


@dataclass(slots=True)
class Load:
    """What goes on in a container: requests one after the other, cold files read and compared."""

    port: int
    rootfs: Path
    expected: dict[str, bytes]
    requests: int = 0
    files: int = 0
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        while not self.stop.is_set():
            value = str(self.requests)
            try:
                stored = ask(self.port, "SET", "key", value, timeout_s=PATIENCE_S)
                # Another connection: what was stored must be there for it, too.
                length = ask(self.port, "STRLEN", "key", timeout_s=PATIENCE_S)
            except OSError as error:
                self.failures.append(f"request {value}: {error}")
                return
            if (stored, length) != ("+OK", f":{len(value)}"):
                self.failures.append(f"request {value}: {stored} {length}")
            self.requests += 1

    def read(self, names: list[str]) -> None:
        for name in names:
            try:
                digest = hashlib.sha256((self.rootfs / name).read_bytes()).digest()
            except OSError as error:
                self.failures.append(f"{name}: {error}")
                continue
            if digest != self.expected[name]:
                self.failures.append(f"{name}: other bytes")
            self.files += 1

    def progress(self, files: int) -> None:
        """Wait until so many files are read and requests are answered now."""
        answered = self.requests
        wait_until(
            lambda: self.files >= files and self.requests > answered,
            f"{files} files and one more answer",
            timeout_s=PATIENCE_S,
        )


def test_a_container_writes_reads_and_answers_through_kill_reload_and_restarts(
    world: World,
) -> None:
    node = world.node
    port = world.run_redis("busy")
    expected = world.files()
    names = sorted(expected)
    load = Load(port, world.rootfs("busy"), expected)
    before = node.status()["pid"]

    def kill_worker() -> None:
        os.kill(node.status()["worker"]["pid"], signal.SIGKILL)

    def restart_snapshotter() -> None:
        node.snapshotter.stop(signal.SIGKILL)
        node.start_snapshotter()

    def start_another() -> None:
        ask(world.run_redis("another"), "SET", "key", "value")

    faults = (
        kill_worker,
        lambda: node.thinfs("daemon", "reload"),
        restart_snapshotter,
        kill_worker,
        start_another,
    )
    with ThreadPoolExecutor(READERS + 1) as threads:
        work = [threads.submit(load.ask)]
        work += [threads.submit(load.read, names[at::READERS]) for at in range(READERS)]
        try:
            for number, fault in enumerate(faults):
                load.progress(len(names) * number // STEPS)
                fault()
            load.progress(len(names))
        finally:
            load.stop.set()
        for each in work:
            each.result(timeout=PATIENCE_S)
    assert load.failures == []
    assert load.files == len(names)
    assert load.requests > len(faults)
    status = node.status()
    assert status["pid"] == before
    assert status["worker"]["restarts"] == 2
    assert any((world.rootfs("busy")).rglob("*.aof"))


@pytest.mark.expects_log("does not answer|cannot be had")
def test_after_a_reboot_a_warm_container_starts_again_without_any_repository(
    world: World,
) -> None:
    port = world.run_redis("warm")
    assert ask(port, "SET", "key", "value") == "+OK"
    wait_until(lambda: stable(world.node), "what arrived to be in the cache")
    cut_the_power(world)
    world.node.repository.rename(world.folder / "out-of-reach")
    world.node.start_daemon()
    world.node.start_snapshotter()
    world.containerd.start()
    world.containerd.ctr("tasks", "start", "--detach", "warm")
    wait_until(lambda: is_ready(port), "Redis to answer again")
    # What the container wrote is its own, and is there.
    assert ask(port, "GET", "key") == "$5"


def stable(node: Node) -> bool:
    """Whether nothing is on its way from a repository to the cache any more."""
    counts = [node.status()["cache"]["contents"] for _ in range(20)]
    return len(set(counts)) == 1


def cut_the_power(world: World) -> None:
    """Nothing runs, nothing is mounted, and what lay in memory is gone."""
    world.containerd.kill()
    sweep.kill_processes(world.folder)
    for process in (world.node.daemon, world.node.snapshotter):
        process.stop(signal.SIGKILL)
    sweep.unmount_below(world.folder)
    assert sweep.mounts_below(world.folder) == []
    for base in sweep.RUNTIME:
        shutil.rmtree(base / world.containerd.namespace, ignore_errors=True)
    shutil.rmtree(world.containerd.folder / "state")
    for name in ("mnt", "mnt.native"):
        shutil.rmtree(world.node.folder / name, ignore_errors=True)
    for socket in world.node.folder.glob("*.sock*"):
        socket.unlink()
    subprocess.run(["sync"], check=True)
