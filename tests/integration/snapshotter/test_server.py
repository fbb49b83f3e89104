"""The real command and a real gRPC client over a unix socket; no daemon, no mounts."""

from __future__ import annotations

import random
import socket
import stat
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from snapshotter.api import snapshots_pb2 as pb
from snapshotter.metastore import Metastore
from snapshotter.mounts import Layout
from tests.support.plain_daemon import PlainDaemon
from tests.support.processes import accepts
from tests.support.snapshot_client import Client, start_snapshotter, status
from tests.support.snapshots import RECIPE, disagreements, orphans
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.timestamp_pb2 import Timestamp

    from tests.support.processes import Process

THREADS = 20


@pytest.fixture
def server(folder: Path) -> Iterator[Process]:
    with start_snapshotter(folder) as running:
        yield running


@pytest.fixture
def client(server: Process, folder: Path) -> Iterator[Client]:
    with Client(folder / "s.sock") as made:
        yield made


def root_of(folder: Path) -> tuple[Layout, Metastore]:
    root = folder / "snapshotter"
    return Layout(root / "snapshots"), Metastore(root / "metadata.sqlite")


def all_disagreements(folder: Path) -> list[str]:
    layout, store = root_of(folder)
    try:
        return [*disagreements(layout, store), *orphans(layout, store)]
    finally:
        store.close()


def test_only_its_owner_can_use_the_socket(server: Process, folder: Path) -> None:
    assert stat.S_IMODE((folder / "s.sock").stat().st_mode) == 0o600


def test_times_and_labels_go_over_the_wire(client: Client) -> None:
    client.stub.Prepare(pb.PrepareSnapshotRequest(key="k", labels={"a": "1"}))
    info = client.stub.Stat(pb.StatSnapshotRequest(key="k")).info
    assert (info.name, info.parent, info.kind, dict(info.labels)) == (
        "k",
        "",
        pb.ACTIVE,
        {"a": "1"},
    )
    assert info.created_at == info.updated_at
    request = pb.UpdateSnapshotRequest(
        info=pb.Info(name="k", labels={"b": "2"}), update_mask=FieldMask(paths=["labels.b"])
    )
    updated = client.stub.Update(request).info
    assert dict(updated.labels) == {"a": "1", "b": "2"}
    assert _ns(updated.updated_at) > _ns(info.updated_at)


def test_refusals_have_the_status_that_containerd_acts_on(client: Client) -> None:
    client.prepare("x")
    client.commit("base", "x")
    client.prepare("active", "base")
    refusals: list[tuple[Callable[[], object], grpc.StatusCode]] = [
        (lambda: client.prepare("new", "unknown"), grpc.StatusCode.NOT_FOUND),
        (lambda: client.prepare("active"), grpc.StatusCode.ALREADY_EXISTS),
        (lambda: client.prepare("new", "active"), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda: client.commit("base", "active"), grpc.StatusCode.ALREADY_EXISTS),
        (lambda: client.commit("new", "base"), grpc.StatusCode.FAILED_PRECONDITION),
        (lambda: client.remove("base"), grpc.StatusCode.FAILED_PRECONDITION),
        (lambda: client.remove("unknown"), grpc.StatusCode.NOT_FOUND),
        (lambda: client.names("kind="), grpc.StatusCode.INVALID_ARGUMENT),
    ]
    for call, wanted in refusals:
        with pytest.raises(grpc.RpcError) as refusal:
            call()
        assert status(refusal.value) is wanted


def test_without_a_daemon_a_thin_image_is_unavailable_with_the_reason(
    client: Client, folder: Path
) -> None:
    commit_thin(client)
    with pytest.raises(grpc.RpcError) as refusal:
        client.prepare("k", "thin")
    assert status(refusal.value) is grpc.StatusCode.UNAVAILABLE
    assert str(folder / "daemon.sock") in str(refusal.value)
    assert client.names() == ["thin"]


def test_stat_is_answered_while_a_list_streams(client: Client) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(client.prepare, (f"k{number:04}" for number in range(350))))
    seen = []
    batches = 0
    for answer in client.stub.List(pb.ListSnapshotsRequest()):
        batches += 1
        for info in answer.info:
            seen.append(client.stub.Stat(pb.StatSnapshotRequest(key=info.name)).info.name)
            client.remove(info.name)
    assert seen == [f"k{number:04}" for number in range(350)]
    assert batches == 4
    assert client.names() == []


def test_many_threads_prepare_commit_and_remove_without_getting_in_each_others_way(
    client: Client, folder: Path
) -> None:
    client.prepare("x")
    client.commit("base", "x")

    def work(thread: int) -> None:
        for number in range(10):
            key = f"{thread}/{number}"
            client.prepare(key, "base")
            client.commit(f"layer {key}", key)
            client.prepare(key, f"layer {key}")
            if number % 3 == 0:
                client.cleanup()
            client.remove(key)
            if number % 2:
                client.remove(f"layer {key}")

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    client.cleanup()
    assert len(client.names()) == 1 + THREADS * 5
    assert all_disagreements(folder) == []


def test_one_of_many_who_want_the_same_key_gets_it(client: Client, folder: Path) -> None:
    def prepare(_: int) -> grpc.StatusCode:
        try:
            client.prepare("the only one")
        except grpc.RpcError as error:
            return status(error)
        return grpc.StatusCode.OK

    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = Counter(pool.map(prepare, range(THREADS)))
    assert outcomes == {grpc.StatusCode.OK: 1, grpc.StatusCode.ALREADY_EXISTS: THREADS - 1}
    assert all_disagreements(folder) == []


@pytest.mark.slow
def test_what_was_answered_is_there_after_kill_9_and_the_rest_leaves_no_trace(
    folder: Path,
) -> None:
    chance = random.Random(7)
    for round_ in range(5):
        process = start_snapshotter(folder)
        answered: set[str] = set()
        removed: set[str] = set()

        def work(
            thread: int,
            round_: int = round_,
            answered: set[str] = answered,
            removed: set[str] = removed,
        ) -> None:
            with Client(folder / "s.sock") as client, suppress(grpc.RpcError):
                for number in range(10_000):
                    key = f"{round_}/{thread}/{number}"
                    client.prepare(key)
                    client.commit(f"layer {key}", key)
                    answered.add(f"layer {key}")
                    if number % 2:
                        removed.add(f"layer {key}")  # from here on it may be gone
                        client.remove(f"layer {key}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        enough = chance.randrange(20, 120)
        wait_until(lambda: len(answered) >= enough, f"{enough} commits")  # noqa: B023 - at once
        process.stop(9)
        for thread in threads:
            thread.join()
        with start_snapshotter(folder), Client(folder / "s.sock") as client:
            assert answered - removed <= set(client.names())
        assert all_disagreements(folder) == []


def test_a_second_snapshotter_of_the_same_root_is_refused(server: Process, folder: Path) -> None:
    second = start_snapshotter(folder, "--address", folder / "t.sock", ready=False)
    assert_fails(second, 2, "another thin-snapshotter uses it")
    assert server.running


def test_a_socket_on_which_somebody_listens_is_not_taken_over(
    server: Process, folder: Path
) -> None:
    second = start_snapshotter(folder, "--root", folder / "other", ready=False)
    assert_fails(second, 2, f"a server listens on {folder / 's.sock'} already")
    assert accepts(folder / "s.sock")


def test_what_is_no_socket_is_not_deleted(folder: Path) -> None:
    (folder / "s.sock").write_text("precious")
    assert_fails(start_snapshotter(folder, ready=False), 2, "is there and is no socket")
    assert (folder / "s.sock").read_text() == "precious"


@pytest.mark.parametrize("name", ["a,b", "a:b", "a\\b"])
def test_a_root_that_mount_options_cannot_hold_is_refused(folder: Path, name: str) -> None:
    assert_fails(
        start_snapshotter(folder, "--root", folder / name, ready=False), 2, "overlay options"
    )


def test_a_file_that_is_no_database_is_one_clear_line(folder: Path) -> None:
    (folder / "snapshotter").mkdir()
    (folder / "snapshotter/metadata.sqlite").write_text("no database" * 1000)
    assert_fails(start_snapshotter(folder, ready=False), 7, "not a database")


def test_the_socket_of_a_killed_server_is_replaced(folder: Path) -> None:
    first = start_snapshotter(folder)
    with Client(folder / "s.sock") as client:
        client.prepare("k")
    first.stop(9)
    assert (folder / "s.sock").exists()
    assert not accepts(folder / "s.sock")
    with start_snapshotter(folder), Client(folder / "s.sock") as client:
        assert client.names() == ["k"]


def test_sigterm_lets_the_calls_under_way_finish_and_takes_the_socket_away(folder: Path) -> None:
    asked, answer = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        assert answer.wait(60)

    process = start_snapshotter(folder)
    with (
        PlainDaemon(folder / "daemon.sock", folder, wait),
        Client(folder / "s.sock") as client,
        ThreadPoolExecutor() as pool,
    ):
        commit_thin(client)
        call = pool.submit(client.prepare, "k", "thin")
        assert asked.wait(60)
        ending = pool.submit(process.stop)
        wait_until(lambda: "ending:" in process.tail(), "the server to hear SIGTERM")
        answer.set()
        assert f"lowerdir={folder}" in call.result()
        assert ending.result() == 0
    assert not (folder / "s.sock").exists()


def test_the_service_manager_is_told_when_it_is_ready_and_when_it_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        process = start_snapshotter(folder, ready=False)
        assert manager.recv(100) == b"READY=1"
        assert accepts(folder / "s.sock")
        assert process.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


def _ns(time: Timestamp) -> int:
    return time.seconds * 1_000_000_000 + time.nanos


def commit_thin(client: Client) -> None:
    """Commit the snapshot "thin" as an unpacked thin image leaves it."""
    (mount,) = client.stub.Prepare(pb.PrepareSnapshotRequest(key="x")).mounts
    Path(mount.source, "thin.json").write_text(RECIPE)
    client.commit("thin", "x")


def assert_fails(process: Process, code: int, message: str) -> None:
    """A command ends with an exit code and one line, without a traceback."""
    wait_until(lambda: not process.running, "the command to end")
    assert process.stop() == code
    assert message in process.tail()
    assert "Traceback" not in process.tail()
