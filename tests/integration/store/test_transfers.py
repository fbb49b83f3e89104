"""Transfers that share connections, and one loop that drives them all."""

from __future__ import annotations

import contextlib
import random
import ssl
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import trustme

from tests.support.http_proxy import HttpProxy, Mode
from thinfs.curl import Transfers
from thinfs.errors import FormatError, TransportError, UsageError
from thinfs.transfer import Answer, Get, Patience, Tls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PATIENT = Patience(connect_s=10, silence_s=10)
HURRIED = Patience(connect_s=0.2, silence_s=0.3, bytes_per_s=1000)


ENDLESS = {
    "headers": b"X-Header: of some length\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n",
}


class Server:
    """Answers each request for ``/<name>`` by what its function ``name`` does."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self.port: int = listener.socket.getsockname()[1]
        self.connections = 0
        self.open = 0
        self.changed = trio.Event()
        self.gates: dict[str, trio.Event] = {}

    def url(self, name: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/{name}"

    def gate(self, name: str) -> trio.Event:
        """What requests for ``/<name>`` wait for between head and body."""
        return self.gates.setdefault(name, trio.Event())

    def has(self, connections: int) -> bool:
        """Whether so many connections are open."""
        return self.open == connections

    async def until_closed(self) -> None:
        """Wait until every connection has been closed by the client."""
        while self.open:
            await self.changed.wait()

    async def answer(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        self.open += 1
        try:
            async with stream:
                await self._requests(stream)
        except (trio.BrokenResourceError, ssl.SSLError):
            pass
        finally:
            self.open -= 1
            self.changed.set()
            self.changed = trio.Event()

    async def _requests(self, stream: trio.abc.Stream) -> None:
        asked = b""
        while piece := await stream.receive_some(65536):
            asked += piece
            while b"\r\n\r\n" in asked:
                head, _, asked = asked.partition(b"\r\n\r\n")
                await self._one(stream, head.split(b" ")[1].decode().strip("/"))

    async def _one(self, stream: trio.abc.Stream, name: str) -> None:
        if name in ENDLESS:
            if name == "headers":
                await stream.send_all(b"HTTP/1.1 200 OK\r\n")
            while True:
                await stream.send_all(ENDLESS[name] * 100)
        length = b"1000000" if name == "trickle" else b"6"
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\nbod" % length)
        if name == "trickle":
            while True:
                await stream.send_all(b"y")
                await trio.sleep(0.02)
        if name in self.gates:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_hung_up, stream, nursery.cancel_scope)
                await self.gates[name].wait()
                nursery.cancel_scope.cancel()
        await stream.send_all(b"ies")


async def _until_hung_up(stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.receive_some(1)
    scope.cancel()


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server = Server(listener)
        listening: trio.abc.Listener[trio.abc.Stream] = listener
        if tls is not None:
            listening = trio.SSLListener(listener, tls, https_compatible=True)
        nursery.start_soon(partial(trio.serve_listeners, server.answer, [listening]))
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def transferring(connections: int = 8, tls: Tls | None = None) -> AsyncIterator[Transfers]:
    transfers = Transfers(connections, tls or Tls())
    try:
        yield transfers
    finally:
        await transfers.aclose()


def get(url: str, patience: Patience = PATIENT, max_bytes: int = 100) -> Get:
    return Get(url, ("Accept-Encoding: identity",), max_bytes, patience, proxy="")


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.001)


async def body(transfers: Transfers, url: str) -> bytes:
    pieces: list[bytes] = []
    answer = await transfers.fetch(get(url), pieces.append)
    assert answer == Answer(200, "OK", {"content-length": "6"}, 6)
    return b"".join(pieces)


async def test_a_cancelled_transfer_ends_with_its_connection() -> None:
    async with serving() as server, transferring() as transfers:
        server.gate("held")
        with trio.move_on_after(30) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(body, transfers, server.url("held"))
                await until(partial(server.has, 1))
                scope.cancel()
        with trio.fail_after(10):
            await server.until_closed()
            assert await body(transfers, server.url("other")) == b"bodies"


async def test_when_the_one_that_drives_goes_another_one_drives() -> None:
    async with serving() as server, transferring() as transfers:
        got: list[str] = []
        scopes: list[trio.CancelScope] = []

        async def read(name: str) -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                assert await body(transfers, server.url(name)) == b"bodies"
                got.append(name)

        async with trio.open_nursery() as nursery:
            for number, name in enumerate(("first", "second", "third", "fourth"), 1):
                server.gate(name)
                nursery.start_soon(read, name)
                await until(partial(server.has, number))
            scopes[0].cancel()  # it drove
            scopes[1].cancel()  # at the same moment as the one that is next to drive
            server.gate("third").set()
            await until(lambda: got == ["third"])
            server.gate("fourth").set()
        assert got == ["third", "fourth"]


async def test_transfers_that_end_in_any_order_each_get_their_own_bytes() -> None:
    async with serving() as server, transferring(connections=4) as transfers:
        got: list[bytes] = []

        async def read(name: str) -> None:
            got.append(await body(transfers, server.url(name)))

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(read, f"file-{number}")
        assert got == [b"bodies"] * 200
        assert server.connections <= 4


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_is_cancelled_the_others_go_on(seed: int) -> None:
    chance = random.Random(seed)
    async with serving() as server, transferring(connections=6) as transfers:
        ends: Counter[str] = Counter()

        async def read(name: str, patience_s: float) -> None:
            with trio.move_on_after(patience_s) as scope:
                assert await body(transfers, server.url(name)) == b"bodies"
            ends["cancelled" if scope.cancelled_caught else "read"] += 1

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for number in range(300):
                    soon = chance.random() < 0.5
                    patience_s = chance.expovariate(200) if soon else 1000
                    nursery.start_soon(read, f"file-{number}", patience_s)
                    if number % 10 == 0:
                        await trio.sleep(chance.expovariate(1000))
            assert await body(transfers, server.url("last")) == b"bodies"
        assert ends["read"] >= 100
        assert ends.total() == 300


async def test_other_tasks_have_their_turn_while_data_comes() -> None:
    async with serving() as server, transferring() as transfers:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            for _ in range(20):
                await body(transfers, server.url("file"))
            nursery.cancel_scope.cancel()
        assert turns >= 20


async def test_a_trickle_is_broken_off_and_named() -> None:
    async with serving() as server, transferring() as transfers:
        endless = get(server.url("trickle"), HURRIED, max_bytes=1 << 30)
        with trio.fail_after(10), pytest.raises(TransportError, match=r"less than 1000 bytes/s"):
            await transfers.fetch(endless, lambda _: None)
        with trio.fail_after(10):
            await server.until_closed()


@pytest.mark.parametrize("name", ["headers", "continue", "hints"])
async def test_a_head_without_end_is_broken_off(name: str) -> None:
    async with serving() as server, transferring() as transfers:
        with trio.fail_after(10), pytest.raises(TransportError, match=r"(?i)headers?"):
            await transfers.fetch(get(server.url(name)), lambda _: None)
        with trio.fail_after(10):
            await server.until_closed()


async def test_what_the_sink_raises_reaches_who_asked() -> None:
    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    async with serving() as server, transferring() as transfers:
        with pytest.raises(OSError, match="No space left"):
            await transfers.fetch(get(server.url("file")), full)
        assert await body(transfers, server.url("file")) == b"bodies"


async def test_a_body_longer_than_allowed_is_not_given_at_all_when_it_says_so() -> None:
    async with serving() as server, transferring() as transfers:
        given: list[bytes] = []
        with pytest.raises(FormatError, match="longer than 5 bytes"):
            await transfers.fetch(get(server.url("file"), max_bytes=5), given.append)
        assert given == []


async def test_an_address_that_libcurl_refuses_is_a_transport_error() -> None:
    async with transferring() as transfers:
        for url in ("gopher://127.0.0.1/", "http://[::1/", "http://127.0.0.1:99999/"):
            with pytest.raises(TransportError, match=r"127|::1"):
                await transfers.fetch(get(url), lambda _: None)


@pytest.mark.parametrize(("proxy", "blame"), [("", "host"), ("http://127.0.0.1:1", "proxy")])
async def test_who_refuses_a_connection_is_blamed(proxy: str, blame: str) -> None:
    async with transferring() as transfers:
        nobody = Get("http://127.0.0.1:1/x", (), 10, PATIENT, proxy)
        with pytest.raises(TransportError) as caught:
            await transfers.fetch(nobody, lambda _: None)
        assert caught.value.blame == blame


# TLS


def context(authority: trustme.CA, *, ask: bool = False) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(made)
    if ask:
        authority.configure_trust(made)
        made.verify_mode = ssl.CERT_REQUIRED
    return made


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, str]:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made, str(tmp_path / "ca.pem")


async def test_a_server_is_checked_against_the_configured_authority(
    authority: tuple[trustme.CA, str],
) -> None:
    made, file = authority
    async with serving(context(made)) as server, transferring(tls=Tls(file)) as transfers:
        assert await body(transfers, server.url("file", "https")) == b"bodies"


async def test_a_proxy_tunnels_what_is_encrypted(authority: tuple[trustme.CA, str]) -> None:
    made, file = authority
    with HttpProxy() as proxy:
        async with serving(context(made)) as server, transferring(tls=Tls(file)) as transfers:
            url = server.url("file", "https")
            pieces: list[bytes] = []
            for _ in range(2):
                tunnelled = Get(url, (), 100, PATIENT, proxy.url)
                assert (await transfers.fetch(tunnelled, pieces.append)).status == 200
            assert b"".join(pieces) == b"bodies" * 2
            assert proxy.requests == [f"127.0.0.1:{server.port}"]  # one tunnel for both


@pytest.mark.parametrize("mode", ["hang up", "busy"])
async def test_a_proxy_that_does_not_tunnel_is_named(mode: Mode) -> None:
    with HttpProxy(mode) as proxy:
        async with transferring() as transfers:
            get = Get("https://127.0.0.1:1/x", (), 100, PATIENT, proxy.url)
            with pytest.raises(TransportError, match=f"through {proxy.url}"):
                await transfers.fetch(get, lambda _: None)


async def test_a_server_that_no_authority_knows_is_refused(
    authority: tuple[trustme.CA, str],
) -> None:
    made, _ = authority
    async with serving(context(made)) as server, transferring() as transfers:
        with pytest.raises(TransportError, match="certificate"):
            await transfers.fetch(get(server.url("file", "https")), lambda _: None)


async def test_a_server_that_asks_who_we_are_is_shown_our_certificate(
    authority: tuple[trustme.CA, str], tmp_path: Path
) -> None:
    made, file = authority
    ours = made.issue_cert("node.example.org")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "node.pem")
    ours.private_key_pem.write_to_path(tmp_path / "node.key")
    tls = Tls(file, str(tmp_path / "node.pem"), str(tmp_path / "node.key"))
    async with serving(context(made, ask=True)) as server:
        async with transferring(tls=tls) as transfers:
            assert await body(transfers, server.url("file", "https")) == b"bodies"
        async with transferring(tls=Tls(file)) as transfers:
            with pytest.raises(TransportError):
                await transfers.fetch(get(server.url("file", "https")), lambda _: None)


@pytest.mark.parametrize("make", [Tls, lambda p: Tls("", p), lambda p: Tls("", "", p)])
async def test_a_file_that_is_not_there_is_named_at_once(make: Callable[[str], Tls]) -> None:
    with pytest.raises(UsageError, match=r"/nowhere/x\.pem: No such file"):
        Transfers(1, make("/nowhere/x.pem"))
