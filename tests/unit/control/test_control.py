from __future__ import annotations

import json
import stat
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pytest
import trio

import thinfs.errors
from thinfs.control import server
from thinfs.control.client import ControlClient
from thinfs.control.connection import Connections
from thinfs.control.listening import listen_unix
from thinfs.control.problems import STATUS, error_of, problem_of
from thinfs.control.values import (
    CacheStatus,
    FetchStatus,
    Root,
    Status,
    Trace,
    TraceEvent,
)
from thinfs.errors import (
    FormatError,
    MissingError,
    StoreError,
    ThinfsError,
    TransportError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

T = TypeVar("T")
ROOT = Root("ab12", "tree", "/m/trees/ab12", "/m/trees/ab12", "test/image:1", ["one"])
TRACE = Trace("ab12", "test/image:1", 1.5, [TraceEvent("read", 0.1, 0.2, "metadata", 1, 2, True)])
STATUS_VALUE = Status(
    version="1",
    pid=2,
    uptime_s=3.5,
    mountpoint="/m",
    roots=[ROOT],
    cache=CacheStatus("/c", 1, 2, 3, 4, 5, 6),
    fetch=FetchStatus(1, 2, 3, 4, 5, 6.5),
    fuse_requests={"lookup": 7},
)


@dataclass
class FakeDaemon:
    """Implements ``thinfs.control.server.Driven``; ``error`` is raised by everything."""

    error: Exception | None = None
    calls: list[tuple[str, ...]] = field(default_factory=list)

    async def status(self) -> Status:
        self._heard("status")
        return STATUS_VALUE

    def roots(self) -> list[Root]:
        self._heard("roots")
        return [ROOT]

    async def attach(self, holder: str, recipe: str) -> Root:
        self._heard("attach", holder, recipe)
        return ROOT

    def expect(self, recipe: str) -> None:
        self._heard("expect", recipe)

    async def detach(self, holder: str) -> None:
        self._heard("detach", holder)

    async def trace(self, root_id: str) -> Trace:
        self._heard("trace", root_id)
        return TRACE

    def metrics(self) -> bytes:
        self._heard("metrics")
        return b"thinfs_roots 1.0\n"

    def _heard(self, *call: str) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def serving(daemon: FakeDaemon, path: Path) -> AsyncIterator[None]:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, server.application(daemon), listen_unix(path), stop)
        try:
            yield
        finally:
            stop.set()


async def ask(path: Path, call: Callable[[ControlClient], T]) -> T:
    def talk() -> T:
        with ControlClient(path, timeout_s=10.0) as client:
            return call(client)

    return await trio.to_thread.run_sync(talk)


@pytest.fixture
def socket(folder: Path) -> Path:
    return folder / "d.sock"


async def test_values_go_there_and_back(socket: Path) -> None:
    daemon = FakeDaemon()
    async with serving(daemon, socket):
        assert await ask(socket, ControlClient.status) == STATUS_VALUE
        assert await ask(socket, ControlClient.roots) == [ROOT]
        assert await ask(socket, lambda client: client.attach("one", '{"a":"ü"}')) == ROOT
        await ask(socket, lambda client: client.expect("{}"))
        await ask(socket, lambda client: client.detach("one"))
        assert await ask(socket, lambda client: client.trace("ab12")) == TRACE
        assert await ask(socket, ControlClient.metrics) == "thinfs_roots 1.0\n"
    assert daemon.calls == [
        ("status",),
        ("roots",),
        ("attach", "one", '{"a":"ü"}'),
        ("expect", "{}"),
        ("detach", "one"),
        ("trace", "ab12"),
        ("metrics",),
    ]


@pytest.mark.parametrize("holder", [".", "..", "a.b-c_d", "a/b", "a%2Fb", "ü?#"])
async def test_any_name_of_a_holder_arrives_as_it_is(socket: Path, holder: str) -> None:
    daemon = FakeDaemon()
    async with serving(daemon, socket):
        try:
            await ask(socket, lambda client: client.detach(holder))
        except StoreError:
            assert "/" in holder  # no such route: no holder is called so
    assert daemon.calls in ([("detach", holder)], [])
    assert daemon.calls or "/" in holder or "%" in holder


@pytest.mark.parametrize("kind", list(STATUS), ids=lambda kind: kind.__name__)
async def test_errors_come_back_as_the_class_they_left_as(
    socket: Path, kind: type[ThinfsError]
) -> None:
    async with serving(FakeDaemon(kind("what happened")), socket):
        with pytest.raises(kind, match=r"^what happened$") as caught:
            await ask(socket, lambda client: client.attach("one", "{}"))
    assert type(caught.value) is kind


@pytest.mark.expects_log("GET /v1/status failed")
async def test_a_defect_is_answered_and_logged(socket: Path) -> None:
    async with serving(FakeDaemon(KeyError("x")), socket):
        with pytest.raises(StoreError, match="see its log"):
            await ask(socket, ControlClient.status)


def test_every_class_of_error_has_a_status() -> None:
    public = {
        kind
        for kind in vars(thinfs.errors).values()
        if isinstance(kind, type) and issubclass(kind, ThinfsError) and kind is not ThinfsError
    }
    assert set(STATUS) == public


def test_a_class_that_only_the_daemon_knows_comes_back_as_its_base() -> None:
    class DeniedError(TransportError):
        pass

    status, problem = problem_of(DeniedError("no"))
    assert (status, problem.error) == (502, "TransportError")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b'{"error": "E"}'])
def test_an_answer_that_is_no_problem_is_one(body: bytes) -> None:
    assert isinstance(error_of(body), StoreError)


async def test_what_is_no_request_is_refused(socket: Path) -> None:
    bodies = [b"", b"x", b"[]", b'{"holder": "a"}', b'{"holder": 1, "recipe": ""}']
    daemon = FakeDaemon()

    def post() -> list[int]:
        with closing(Connections(socket, timeout_s=10.0)) as client:
            return [client.ask("POST", "/v1/roots", body)[0] for body in bodies]

    async with serving(daemon, socket):
        assert set(await trio.to_thread.run_sync(post)) == {400}
    assert daemon.calls == []


async def test_the_size_of_requests_is_bounded(socket: Path) -> None:
    daemon = FakeDaemon()
    body = json.dumps({"holder": "a", "recipe": "x" * server.MAX_REQUEST_BYTES})

    def post() -> tuple[int, bytes]:
        with closing(Connections(socket, timeout_s=10.0)) as client:
            return client.ask("POST", "/v1/roots", body.encode())

    async with serving(daemon, socket):
        status, answer = await trio.to_thread.run_sync(post)
    assert status == 400
    assert isinstance(error_of(answer), FormatError)
    assert daemon.calls == []


async def test_only_its_user_may_connect(socket: Path) -> None:
    async with serving(FakeDaemon(), socket):
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600


def test_a_socket_that_nobody_listens_on_is_replaced(socket: Path) -> None:
    listen_unix(socket).close()
    assert socket.exists()
    with listen_unix(socket), pytest.raises(StoreError, match="somebody listens"):
        listen_unix(socket)


def test_without_a_daemon_the_client_says_how_to_start_one(socket: Path) -> None:
    with (
        ControlClient(socket) as client,
        pytest.raises(TransportError, match=r"not running at .*d\.sock: start it with thinfs"),
    ):
        client.status()


async def test_the_daemon_may_come_back_between_two_requests(socket: Path) -> None:
    client = ControlClient(socket, timeout_s=10.0)
    status = partial(trio.to_thread.run_sync, client.status)
    async with serving(FakeDaemon(), socket):
        await status()
    with pytest.raises(TransportError):
        await status()
    async with serving(FakeDaemon(), socket):
        assert await status() == STATUS_VALUE
    client.close()


@pytest.mark.parametrize("address", ["", "nonsense", ":9", "host:", "host:70000", "host:-1"])
def test_an_address_for_metrics_is_checked(address: str) -> None:
    with pytest.raises(UsageError, match="host:port"):
        server.listen_tcp(address)


def test_metrics_can_listen_on_both_kinds_of_addresses() -> None:
    server.listen_tcp("127.0.0.1:0").close()
    server.listen_tcp("[::1]:0").close()


def test_the_client_needs_none_of_the_daemons_libraries() -> None:
    code = (
        "import sys, thinfs.control.client;"
        "print({'trio', 'starlette', 'hypercorn', 'pyfuse3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_missing_things_are_404() -> None:
    assert problem_of(MissingError("x"))[0] == 404
