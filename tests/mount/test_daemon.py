"""The daemon: one mount for all roots, and what survives it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.repositories import directory, file, many_files, tree
from tests.support.sites import is_mounted
from tests.support.wait import wait_until
from thinfs.errors import (
    FormatError,
    IntegrityError,
    MissingError,
    TransportError,
    UsageError,
)
from thinfs.store.layout import catalog_path

if TYPE_CHECKING:
    from tests.support.repositories import MadeRoot
    from tests.support.sites import Site

pytestmark = pytest.mark.mount


@pytest.fixture
def root(site: Site) -> MadeRoot:
    return site.root(tree(directory(b""), file(b"f", b"body\n"), *many_files(b"many", 300)))


@pytest.mark.parametrize("root_mode", ["tree"], indirect=True)
def test_roots_are_attached_and_detached(site: Site, root: MadeRoot) -> None:
    other = site.root(tree(directory(b""), file(b"g", b"other\n")), origin="test/other:1")
    with site.daemon(), site.client() as client:
        first = client.attach("one", root.text)
        assert first.id == root.id
        assert first.lowerdir == first.directory == str(site.mountpoint / "trees" / root.id)
        assert (site.mountpoint / "trees" / root.id / "f").read_bytes() == b"body\n"
        assert not (site.mountpoint / "trees" / other.id).exists()
        client.attach("two", root.text)
        client.attach("three", other.text)
        assert (site.mountpoint / "trees" / other.id / "g").read_bytes() == b"other\n"
        assert {each.id: each.holders for each in client.roots()} == {
            root.id: ["one", "two"],
            other.id: ["three"],
        }
        client.detach("one")
        assert (site.mountpoint / "trees" / root.id / "f").exists()
        client.attach("two", other.text)
        assert [each.id for each in client.roots()] == [other.id]
        assert not (site.mountpoint / "trees" / root.id).exists()
        client.attach("one", root.text)
        assert (site.mountpoint / "trees" / root.id / "f").read_bytes() == b"body\n"
    assert not is_mounted(site.mountpoint)


def test_the_kernel_answers_what_was_asked_before(site: Site, root: MadeRoot) -> None:
    with site.daemon(), site.client() as client:
        at = site.mountpoint / "trees" / client.attach("one", root.text).id
        inside = os.open(at, os.O_RDONLY | os.O_DIRECTORY)

        def touch() -> None:
            for number in range(300):
                os.stat(f"many/file-{number:05d}", dir_fd=inside)
                assert not exists(f"many/missing-{number}", inside)

        def counts() -> dict[str, int]:
            return client.status().fuse_requests

        touch()
        asked = counts()
        assert asked["lookup"] >= 600
        touch()
        assert counts() == asked

        read(f"many/file-{7:05d}", inside)
        reads = counts()["read"]
        read(f"many/file-{7:05d}", inside)
        assert counts()["read"] == reads
        os.close(inside)


def test_a_restart_brings_back_what_was_attached_without_its_repository(
    site: Site, root: MadeRoot
) -> None:
    with site.daemon(), site.client() as client:
        at = Path(client.attach("one", root.text).directory)
        inode = at.stat().st_ino
        assert (at / "f").stat().st_size == 5
    site.repository.rename(site.folder / "away")
    with site.daemon(), site.client() as client:
        assert [(each.id, each.holders) for each in client.roots()] == [(root.id, ["one"])]
        assert at.stat().st_ino == inode
        assert len(list((at / "many").iterdir())) == 300
        client.detach("one")
        assert client.roots() == []


@pytest.mark.expects_log("detaching the dead mount|the supervisor is gone")
def test_after_kill_9_of_all_the_next_daemon_sweeps_and_goes_on(site: Site, root: MadeRoot) -> None:
    with site.daemon() as daemon, site.client() as client:
        at = Path(client.attach("one", root.text).directory)
        site.kill_daemon(daemon)
    with site.daemon(), site.client() as client:
        assert [each.id for each in client.roots()] == [root.id]
        assert (at / "f").read_bytes() == b"body\n"
    assert not is_mounted(site.mountpoint)


@pytest.mark.parametrize("root_mode", ["tree"], indirect=True)
def test_a_detached_root_gets_a_number_of_its_own_when_it_is_back(
    site: Site, root: MadeRoot
) -> None:
    with site.daemon(), site.client() as client:
        before = Path(client.attach("one", root.text).directory).stat().st_ino
        client.detach("one")
        after = Path(client.attach("one", root.text).directory).stat().st_ino
    assert before != after


@pytest.mark.expects_log("does not answer: .*the directory is not there")
def test_errors_come_back_as_what_they_were(site: Site, root: MadeRoot) -> None:
    site.repository.rename(site.folder / "away")
    with site.daemon(), site.client() as client:
        with pytest.raises(FormatError, match="not a recipe"):
            client.attach("one", "{}")
        with pytest.raises(UsageError, match="is no holder"):
            client.attach("a/b", root.text)
        with pytest.raises(TransportError, match="the directory is not there"):
            client.attach("one", root.text)
        elsewhere = root.text.replace("file://", "https://example.org")
        with pytest.raises(UsageError, match=r'add "https://example.org/.*" to allow'):
            client.attach("one", elsewhere)
        site.repository.mkdir()
        with pytest.raises(MissingError, match="does not exist"):
            client.attach("one", root.text)
        assert client.roots() == []
        assert list((site.folder / "state/roots").iterdir()) == []


@pytest.mark.expects_log("is damaged")
def test_a_damaged_catalog_is_not_attached(site: Site, root: MadeRoot) -> None:
    assert root.recipe.thinfs is not None
    digest = bytes.fromhex(root.recipe.thinfs.root.catalog.digest.removeprefix("sha256:"))
    stored = site.repository / catalog_path(digest)
    stored.write_bytes(stored.read_bytes()[:-1] + b"\0")
    with site.daemon(), site.client() as client, pytest.raises(IntegrityError, match="damaged"):
        client.attach("one", root.text)


def test_a_second_daemon_is_refused(site: Site, root: MadeRoot) -> None:
    with site.daemon() as daemon, site.client() as client:
        at = Path(client.attach("one", root.text).directory)
        done = run(site, "daemon")
        assert done.returncode == 7
        assert f"another thinfs daemon (process {daemon.pid})" in done.stderr
        assert (at / "f").exists()
        assert client.status().pid == daemon.pid


def test_the_socket_is_for_its_user_only(site: Site) -> None:
    with site.daemon():
        mode = site.socket.stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
    assert not site.socket.exists()


def test_others_cannot_get_at_trees_through_the_mount(site: Site, root: MadeRoot) -> None:
    site.folder.chmod(0o755)
    with site.daemon(), site.client() as client:
        at = Path(client.attach("one", root.text).directory)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", f"{at}/f"]
        done = subprocess.run(nobody, capture_output=True, check=False)
    assert b"Permission denied" in done.stderr


def test_the_kernel_reads_as_far_ahead_as_suits_the_mode(site: Site) -> None:
    with site.daemon(), site.client() as client:
        device = site.mountpoint.stat().st_dev
        knob = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        suits = {"native": 128, "tree": 4096}
        assert int(knob.read_text()) == suits[client.status().root_mode]


def test_status_and_metrics_tell_what_happens(site: Site, root: MadeRoot) -> None:
    with site.daemon() as daemon, site.client() as client:
        at = Path(client.attach("one", root.text).directory)
        (at / "f").read_bytes()
        status = json.loads(run(site, "status", "--json").stdout)
        table = run(site, "status").stdout
        metrics = client.metrics()
    assert status["pid"] == daemon.pid
    assert status["roots"][0]["holders"] == ["one"]
    assert status["fetch"]["requests"] == 2
    assert status["cache"]["misses"] == 1
    assert root.id in table
    assert f"number 1, process {status['worker']['pid']}" in table
    assert "0 being answered" in table
    assert status["worker"]["pid"] != daemon.pid
    assert 'thinfs_fuse_requests_total{operation="read"} 1.0' in metrics
    assert "thinfs_roots 1.0" in metrics
    assert "thinfs_fuse_oldest_request_seconds 0.0" in metrics
    assert "thinfs_fetch_requests_total 2.0" in metrics


def test_without_a_daemon_the_command_says_how_to_start_one(site: Site) -> None:
    done = run(site, "status")
    assert done.returncode == 6
    assert done.stderr == (
        f"thinfs: the thinfs daemon is not running at {site.socket}: start it with thinfs daemon\n"
    )


@pytest.mark.expects_log("unmounted by somebody")
def test_the_daemon_ends_when_somebody_unmounts_it(site: Site) -> None:
    with site.daemon() as daemon:
        subprocess.run(["umount", site.mountpoint], check=True)
        wait_until(lambda: not daemon.running, "the daemon to end")
        assert daemon.stop() == 0


def exists(path: str, inside: int) -> bool:
    try:
        os.stat(path, dir_fd=inside)
    except FileNotFoundError:
        return False
    return True


def read(path: str, inside: int) -> bytes:
    handle = os.open(path, os.O_RDONLY, dir_fd=inside)
    try:
        return os.read(handle, 1 << 20)
    finally:
        os.close(handle)


def run(site: Site, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        site.command(*arguments), capture_output=True, text=True, check=False, timeout=60
    )
