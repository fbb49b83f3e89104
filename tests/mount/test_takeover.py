"""The mount outlives whoever serves it: killed, hung, replaced, while files are being read."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.checked_readers import CheckedReaders
from tests.support.gated_repository import GatedRepository
from tests.support.repositories import directory, file, make_root, tree
from tests.support.service_manager import ServiceManager
from tests.support.sites import Site, is_gone, is_mounted
from tests.support.sweep import mounts_below
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.repositories import MadeRoot
    from thinfs.control.values import Root, Status

pytestmark = [
    pytest.mark.mount,
    pytest.mark.expects_log("another one takes over its mount|have ended at once"),
]

FILES = 300
READERS = 4
KILLS = 10
HANG_S = 2.0
in_both_modes = pytest.mark.parametrize("root_mode", ["tree", "native"], indirect=True)


@pytest.fixture
def bodies() -> dict[str, bytes]:
    """Files of all sizes."""
    return {f"f{number:03d}": os.urandom(1000 + 9973 * (number % 40)) for number in range(FILES)}


@pytest.fixture
def many(site: Site, bodies: dict[str, bytes]) -> MadeRoot:
    """None of which is in the cache."""
    return site.root(tree(directory(b""), *(file(os.fsencode(n), b) for n, b in bodies.items())))


def status(site: Site) -> Status:
    with site.client() as client:
        return client.status()


def kill_worker(site: Site) -> int:
    """Kill whoever serves; gives who it was."""
    pid = status(site).worker.pid
    os.kill(pid, signal.SIGKILL)
    return pid


@contextmanager
def container(site: Site, root: Root) -> Iterator[Path]:
    """A writable overlay as the snapshotter has it mounted."""
    home = site.folder / "container"
    for part in ("fs", "work", "root"):
        (home / part).mkdir(parents=True)
    options = f"index=off,workdir={home}/work,upperdir={home}/fs,lowerdir={root.lowerdir}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, home / "root"], check=True)
    try:
        yield home / "root"
    finally:
        subprocess.run(["umount", "-l", home / "root"], check=True)


@pytest.mark.slow
@in_both_modes
def test_readers_get_every_byte_while_ten_workers_are_killed(
    site: Site, many: MadeRoot, bodies: dict[str, bytes]
) -> None:
    with site.daemon(), site.client() as client, ThreadPoolExecutor(READERS) as threads:
        with container(site, client.attach("one", many.text)) as inside:
            readers = CheckedReaders(inside, bodies)
            reads = [threads.submit(readers.read, name) for name in sorted(bodies)]
            killed = set()
            for number in range(KILLS):
                readers.wait_for(FILES * number // (KILLS + 1))
                killed.add(kill_worker(site))
            for read in reads:
                read.result(timeout=120)
            after = status(site).worker
        assert readers.wrong == []
        assert readers.done == FILES
        assert len(killed) == KILLS
        assert after.restarts == KILLS
        assert "was killed by SIGKILL" in after.last_end
    assert not is_mounted(site.mountpoint)


@in_both_modes
def test_a_reader_in_the_middle_of_a_read_waits_through_a_kill(
    folder: Path, root_mode: str
) -> None:
    body = os.urandom(3_000_000)
    repository = folder / "elsewhere"  # a node's own repository is read without HTTP
    with GatedRepository(repository) as served:
        site = Site(
            folder,
            daemon={"root_mode": root_mode},
            sources={"allow": [served.url], "timeout_s": 60.0},
        )
        description = tree(directory(b""), file(b"f", body))
        made = make_root(repository, description, urls=[served.url])
        with site.daemon(), site.client() as client, ThreadPoolExecutor(1) as threads:
            served.gate.clear()
            root = client.attach("one", made.text)
            with container(site, root) as inside:
                reading = threads.submit((inside / "f").read_bytes)
                wait_until(lambda: served.waiting > 0, "the read to reach the repository")
                assert client.status().fuse_underway > 0
                wait_until(lambda: status(site).fuse_oldest_s > 0.2, "the read to grow old")
                before = served.waiting
                pid = kill_worker(site)
                wait_until(lambda: status(site).worker.pid != pid, "another worker")
                assert not reading.done()
                wait_until(lambda: served.waiting > before, "the read to be asked again")
                served.gate.set()
                assert reading.result(timeout=60) == body


@pytest.mark.expects_log("was silent for")
def test_a_worker_that_hangs_is_replaced(folder: Path) -> None:
    site = Site(folder, daemon={"hang_timeout_s": HANG_S, "root_mode": "tree"})
    made = site.root(tree(directory(b""), file(b"f", b"body\n")))
    with site.daemon(), site.client() as client:
        at = Path(client.attach("one", made.text).directory)
        hung = client.status().worker.pid
        os.kill(hung, signal.SIGSTOP)
        assert (at / "f").read_bytes() == b"body\n"
        assert is_gone(hung)
        assert "was silent for" in status(site).worker.last_end


@in_both_modes
def test_a_reload_disturbs_no_reader_and_no_mount(
    site: Site, many: MadeRoot, bodies: dict[str, bytes]
) -> None:
    with site.daemon(), site.client() as client, ThreadPoolExecutor(READERS) as threads:
        root = client.attach("one", many.text)
        mounted, before = mounts_of(site), client.status()
        with container(site, root) as inside, (inside / "f039").open("rb") as opened:
            assert opened.read(10) == bodies["f039"][:10]
            readers = CheckedReaders(inside, bodies)
            reads = [threads.submit(readers.read, name) for name in sorted(bodies)]
            done = run(site, "daemon", "reload")
            for read in reads:
                read.result(timeout=120)
            assert opened.read() == bodies["f039"][10:]
        after = client.status()
        assert done.returncode == 0, done.stderr
        assert "worker 2" in done.stdout
        assert readers.wrong == []
        assert (after.worker.number, after.worker.restarts, after.pid) == (2, 0, before.pid)
        assert after.worker.pid != before.worker.pid
        assert after.roots == before.roots
        assert mounts_of(site) == mounted
        wait_until(lambda: is_gone(before.worker.pid), "the old worker to end")


@pytest.mark.expects_log("reloading failed, the old worker goes on: .*unknown field")
def test_a_reload_with_a_bad_configuration_leaves_the_old_worker(
    site: Site, many: MadeRoot
) -> None:
    with site.daemon(), site.client() as client:
        at = Path(client.attach("one", many.text).directory)
        pid = client.status().worker.pid
        good = site.config.read_text()
        site.config.write_text(good.replace("[daemon]", "[daemon]\nno_such = 1"))
        with site.client() as other:
            os.kill(other.status().pid, signal.SIGHUP)
        wait_until(lambda: status(site).worker.reloads_failed == 1, "the reload to fail")
        site.config.write_text(good)
        worker = status(site).worker
        assert worker.pid == pid
        assert "no_such" in worker.reload_error
        assert (at / "f000").exists()


def test_the_control_api_answers_through_a_kill(site: Site, many: MadeRoot) -> None:
    with site.daemon(), site.client() as client, ThreadPoolExecutor(1) as threads:
        client.attach("one", many.text)
        pid = client.status().worker.pid
        os.kill(pid, signal.SIGSTOP)
        attaching = threads.submit(client.attach, "two", many.text)
        wait_until(lambda: waits_for_an_answer(site), "the request to be made")
        os.kill(pid, signal.SIGKILL)
        assert attaching.result(timeout=60).holders == ["one", "two"]
        client.detach("one")
        assert client.roots()[0].holders == ["two"]


def waits_for_an_answer(site: Site) -> bool:
    """Whether somebody is connected to the control socket and has sent something."""
    out = subprocess.run(["ss", "-xH"], capture_output=True, text=True, check=True).stdout
    return any(str(site.socket) in line for line in out.splitlines())


@in_both_modes
@pytest.mark.expects_log("the supervisor is gone|taking over from process")
def test_a_worker_without_supervisor_serves_on_until_the_next_one_comes(
    site: Site, many: MadeRoot, bodies: dict[str, bytes]
) -> None:
    with site.daemon("first") as daemon, site.client() as client:
        root = client.attach("one", many.text)
        with container(site, root) as inside:
            mounted, orphan = mounts_of(site), client.status().worker.pid
            daemon.stop(signal.SIGKILL)
            assert (inside / "f001").read_bytes() == bodies["f001"]
            wait_until(lambda: not status(site).worker.supervised, "the worker to notice")
            with site.daemon("second") as heir:
                assert (inside / "f002").read_bytes() == bodies["f002"]
                wait_until(lambda: status(site).worker.pid != orphan, "a worker of its own")
                assert status(site).pid == heir.pid
                assert mounts_of(site) == mounted
                wait_until(lambda: is_gone(orphan), "the orphan to end")
                kill_worker(site)
                assert (inside / "f003").read_bytes() == bodies["f003"]
                refused = run(site, "daemon")
                assert f"another thinfs daemon (process {heir.pid})" in refused.stderr
    assert not is_mounted(site.mountpoint)


@pytest.mark.expects_log("the supervisor is gone")
def test_a_worker_without_supervisor_can_be_told_to_stop(site: Site, many: MadeRoot) -> None:
    with site.daemon() as daemon, site.client() as client:
        client.attach("one", many.text)
        orphan = client.status().worker.pid
        daemon.stop(signal.SIGKILL)
        wait_until(lambda: not status(site).worker.supervised, "the worker to notice")
        os.kill(orphan, signal.SIGTERM)
        wait_until(lambda: is_gone(orphan), "it to end")
    assert mounts_below(site.folder) == []
    assert not site.socket.exists()


@in_both_modes
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.expects_log("the supervisor is gone")
def test_the_mount_outlives_all_processes_in_the_service_managers_store(
    site: Site, many: MadeRoot, bodies: dict[str, bytes], how: signal.Signals
) -> None:
    command = site.command("-v", "daemon", "--keep-mount")
    with ServiceManager(site.folder, command) as manager, ThreadPoolExecutor(2) as threads:
        process = manager.start()
        try:
            with site.client() as client:
                root = client.attach("one", many.text)
                mounted, worker = mounts_of(site), client.status().worker.pid
            with container(site, root) as inside:
                assert (inside / "f001").read_bytes() == bodies["f001"]
                manager.listen()
                process.stop(how)
                end(worker)  # as the manager does with what is left
                reading = threads.submit((inside / "f002").read_bytes)
                asking = threads.submit(status, site)
                assert is_mounted(site.mountpoint)
                process = manager.start()
                assert reading.result(timeout=60) == bodies["f002"]
                assert asking.result(timeout=60).pid == process.pid
                assert mounts_of(site) == mounted
                assert sorted(manager.store) == ["thinfs-control", "thinfs-device", "thinfs-state"]
        finally:
            with site.client() as client:
                worker = client.status().worker.pid
            process.stop(signal.SIGTERM)
            end(worker)
    subprocess.run(["umount", "-l", site.mountpoint], check=True)


def test_without_being_asked_to_keep_it_the_mount_goes_with_the_daemon(site: Site) -> None:
    with ServiceManager(site.folder, site.command("daemon")) as manager:
        process = manager.start()
        assert process.stop() == 0
        assert "STOPPING=1" in manager.listen()
        assert manager.store == {}
    assert not is_mounted(site.mountpoint)


def test_the_service_manager_is_told_of_reloads(site: Site) -> None:
    with ServiceManager(site.folder, site.command("daemon")) as manager:
        process = manager.start()
        os.kill(process.pid, signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        manager.said.clear()
        manager.wait_for("READY=1")
        assert status(site).worker.number == 2
        process.stop()


def end(pid: int) -> None:
    """Kill a process if it is still there, and wait for its end."""
    if not is_gone(pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid), f"process {pid} to end")


def mounts_of(site: Site) -> dict[str, str]:
    """What is mounted for roots: mount ids by place; a new mount has a new id."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    fields = (line.split() for line in lines)
    return {each[4]: each[0] for each in fields if each[4].startswith(str(site.mountpoint))}


def run(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        site.command(*arguments), capture_output=True, text=True, check=False, timeout=180
    )
