"""The contract of a source, passed by directories and web servers, and what only one has."""

from __future__ import annotations

import base64
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from tests.support.faulty_http import FaultyServer
from tests.support.http_proxy import HttpProxy, Mode
from tests.support.reading import World, patterned, sha256
from tests.support.servers import nginx
from tests.support.wait import wait_until
from thinfs.config import SourcesConfig
from thinfs.errors import FormatError, MissingError, TransportError
from thinfs.store.layout import object_path
from thinfs.store.source import Source, open_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

QUICK = SourcesConfig(timeout_s=0.3, connect_timeout_s=0.3)
QUICK_PROXY = SourcesConfig(timeout_s=60, proxy_timeout_s=0.3, connect_timeout_s=0.3)


@pytest.fixture
def world() -> World:
    made = World()
    made.bundle(patterned(1000))
    made.bundle(bytes(300_000) + patterned(300_000))
    return made


@asynccontextmanager
async def from_directory(world: World, folder: Path) -> AsyncIterator[Source]:
    world.write(folder / "repo")
    source = open_source((folder / "repo").as_uri(), QUICK)
    yield source
    await source.aclose()


@asynccontextmanager
async def from_server(world: World, _: Path) -> AsyncIterator[Source]:
    with FaultyServer(world.files) as server:
        source = open_source(server.url, QUICK)
        yield source
        await source.aclose()


@asynccontextmanager
async def from_nginx(world: World, folder: Path) -> AsyncIterator[Source]:
    (folder / "work").mkdir()
    world.write(folder / "repo")
    with nginx(folder / "repo", folder / "work") as url:
        source = open_source(url, SourcesConfig())
        yield source
        await source.aclose()


@pytest.fixture(params=[from_directory, from_server, from_nginx])
def opened(
    request: pytest.FixtureRequest, world: World, folder: Path
) -> AbstractAsyncContextManager[Source]:
    make: Callable[[World, Path], AbstractAsyncContextManager[Source]] = request.param
    return make(world, folder)


# The contract


async def test_a_file_is_given_whole(
    opened: AbstractAsyncContextManager[Source], world: World
) -> None:
    async with opened as source:
        for path, data in world.files.items():
            assert await source.get(path, len(data)) == data
            assert await source.get(path, 1 << 30, fresh=True) == data


async def test_an_absent_file_is_missing_and_named(
    opened: AbstractAsyncContextManager[Source],
) -> None:
    path = object_path(sha256(b"absent"))
    async with opened as source:
        with pytest.raises(MissingError, match=f"{source.url}/{path}"):
            await source.get(path, 100)


async def test_a_file_longer_than_allowed_is_refused(
    opened: AbstractAsyncContextManager[Source], world: World
) -> None:
    async with opened as source:
        for path, data in world.files.items():
            with pytest.raises(FormatError, match=f"longer than {len(data) - 1} bytes"):
                await source.get(path, len(data) - 1)
            assert await source.get(path, len(data)) == data


async def test_many_files_come_at_once(
    opened: AbstractAsyncContextManager[Source], world: World
) -> None:
    async with opened as source, trio.open_nursery() as nursery:

        async def read(path: str) -> None:
            assert await source.get(path, 1 << 20) == world.files[path]

        for path in list(world.files) * 20:
            nursery.start_soon(read, path)


async def test_a_cancelled_read_leaves_the_source_usable(
    opened: AbstractAsyncContextManager[Source], world: World
) -> None:
    (path, data), *_ = world.files.items()
    async with opened as source:
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.get, path, 1 << 20)
                nursery.cancel_scope.cancel()
        assert await source.get(path, 1 << 20) == data


# Directories


@pytest.mark.parametrize("path", ["../secret", "objects/../../secret", "/etc/passwd", "a//b", ""])
async def test_a_path_that_leaves_the_repository_is_refused(
    world: World, folder: Path, path: str
) -> None:
    (folder / "secret").write_bytes(b"secret")
    async with from_directory(world, folder) as source:
        with pytest.raises(FormatError):
            await source.get(path, 100)


async def test_symbolic_links_and_fifos_in_a_repository_are_not_followed(
    world: World, folder: Path
) -> None:
    async with from_directory(world, folder) as source:
        (folder / "secret").write_bytes(b"secret")
        (folder / "repo/link").symlink_to("../secret")
        (folder / "repo/up").symlink_to("..")
        os.mkfifo(folder / "repo/fifo")
        (folder / "repo/folder").mkdir()
        for path in ("link", "up/secret", "fifo", "folder"):
            with pytest.raises((TransportError, MissingError)):
                await source.get(path, 100)


async def test_a_repository_whose_disk_is_not_mounted_is_silent_and_misses_nothing(
    world: World, folder: Path
) -> None:
    async with from_directory(world, folder) as source:
        (folder / "repo").rename(folder / "away")
        with pytest.raises(TransportError, match="the directory is not there"):
            await source.get(next(iter(world.files)), 1000)


# Web servers


async def test_one_connection_serves_many_requests(world: World) -> None:
    (path, data), *_ = world.files.items()
    with FaultyServer(world.files, "r4r5r") as server:
        source = open_source(server.url, QUICK)
        for letter in "r4r5r":
            try:
                assert await source.get(path, 1 << 20) == data
            except (MissingError, TransportError):
                assert letter in "45"
        await source.aclose()
        assert server.connections == 1
        headers = server.requests[0][1]
        assert headers["accept-encoding"] == "identity"
        assert "cache-control" not in headers


async def test_fresh_asks_caches_to_look_again(world: World) -> None:
    with FaultyServer(world.files) as server:
        source = open_source(server.url, QUICK)
        await source.get(next(iter(world.files)), 1 << 20, fresh=True)
        await source.aclose()
        assert server.requests[0][1]["cache-control"] == "no-cache"


@pytest.mark.parametrize("letter", [*"5kchsg"])
async def test_every_way_to_break_off_is_a_transport_error_and_the_next_request_works(
    world: World, letter: str
) -> None:
    (path, data), *_ = world.files.items()
    with FaultyServer(world.files, letter) as server:
        source = open_source(server.url, QUICK)
        with trio.fail_after(20), pytest.raises(TransportError, match=server.url):
            await source.get(path, 1 << 20)
        assert await source.get(path, 1 << 20) == data
        await source.aclose()


async def test_an_answer_without_a_length_is_read_to_its_end(world: World) -> None:
    (path, data), *_ = world.files.items()
    with FaultyServer(world.files, "n") as server:
        source = open_source(server.url, QUICK)
        assert await source.get(path, 1 << 20) == data
        await source.aclose()


@pytest.mark.parametrize("letter", ["l", "L"])
async def test_an_answer_without_end_is_not_taken_in(world: World, letter: str) -> None:
    with FaultyServer(world.files, letter) as server:
        source = open_source(server.url, QUICK)
        with pytest.raises(FormatError, match="longer than 2000 bytes"):
            await source.get(next(iter(world.files)), 2000)
        await source.aclose()


async def test_a_redirect_within_the_server_is_followed(world: World) -> None:
    (path, data), *_ = world.files.items()
    with FaultyServer(world.files, "S") as server:
        source = open_source(server.url, QUICK)
        assert await source.get(path, 1 << 20) == data
        await source.aclose()
        assert [asked for asked, _ in server.requests] == [f"/repo/{path}", f"/moved/{path}"]


@pytest.mark.parametrize(("script", "message"), [("X", "another server"), ("OOOO", "redirects")])
async def test_a_redirect_elsewhere_or_without_end_is_refused(
    world: World, script: str, message: str
) -> None:
    with FaultyServer(world.files, script) as server:
        source = open_source(server.url, QUICK)
        with pytest.raises(TransportError, match=message):
            await source.get(next(iter(world.files)), 1 << 20)
        await source.aclose()
        assert len(server.requests) == len(script)


async def test_a_server_that_is_not_there_is_a_transport_error(world: World) -> None:
    with FaultyServer(world.files) as server:
        url = server.url
    source = open_source(url, QUICK)
    with pytest.raises(TransportError, match=url):
        await source.get(next(iter(world.files)), 1 << 20)
    await source.aclose()


async def test_http_2_carries_many_requests_at_once_and_some_may_leave(
    world: World, folder: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    (folder / "work").mkdir()
    world.write(folder / "repo")
    log, pem = folder / "access.log", folder / "server.pem"
    with nginx(folder / "repo", folder / "work", log=log, pem=pem) as url:
        source = open_source(url, SourcesConfig(ca_file=str(folder / "ca.pem")))
        async with trio.open_nursery() as nursery:

            async def read(path: str) -> None:
                assert await source.get(path, 1 << 20) == world.files[path]

            for number in range(200):
                nursery.start_soon(read, list(world.files)[number % len(world.files)])
                if number % 20 == 0:  # some leave in the middle of the others' bytes
                    with trio.move_on_after(0.001):
                        await read(list(world.files)[-1])
        await source.aclose()
        wait_until(lambda: len(log.read_text().splitlines()) >= 200, "nginx to log all")
    assert all(' HTTP/2.0" ' in line for line in log.read_text().splitlines())


async def test_a_login_is_sent_to_its_server_and_kept_up_to_date(
    world: World, tmp_path: Path
) -> None:
    (path, data), *_ = world.files.items()
    file = tmp_path / "logins.toml"
    with FaultyServer(world.files) as server:
        file.write_text(f'["{server.url}"]\nbearer = "one"\n')
        source = open_source(server.url, SourcesConfig(credentials=str(file)))
        assert await source.get(path, 1 << 20) == data
        file.write_text(f'["{server.url}"]\nbearer = "another"\n')
        assert await source.get(path, 1 << 20) == data
        await source.aclose()
        sent = [headers["authorization"] for _, headers in server.requests]
        assert sent == ["Bearer one", "Bearer another"]


# Proxies


async def test_requests_go_through_the_proxy_that_is_named(world: World) -> None:
    (path, data), *_ = world.files.items()
    with FaultyServer(world.files) as server, HttpProxy() as proxy:
        source = open_source(server.url, QUICK)
        assert await source.get(path, 1 << 20, proxy=proxy.url) == data
        assert proxy.requests == [f"{server.url}/{path}"]
        assert await source.get(path, 1 << 20, proxy="") == data
        login = proxy.url.replace("//", "//node:secret@")
        assert await source.get(path, 1 << 20, proxy=login) == data
        assert proxy.logins == ["", f"Basic {base64.b64encode(b'node:secret').decode()}"]
        await source.aclose()


@pytest.mark.parametrize("mode", ["hang up", "silent", "busy"])
async def test_a_proxy_that_fails_is_named_without_its_password(world: World, mode: Mode) -> None:
    with FaultyServer(world.files) as server, HttpProxy(mode) as proxy:
        source = open_source(server.url, QUICK_PROXY)
        login = proxy.url.replace("//", "//node:secret@")
        with pytest.raises(TransportError, match=f"through {proxy.url}") as caught:
            await source.get(next(iter(world.files)), 1 << 20, proxy=login)
        assert "secret" not in str(caught.value)
        await source.aclose()


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [("7", 7, 7), ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9, 1e12), ("soon", 0, 0), ("-1", 0, 0)],
)
async def test_a_server_that_asks_for_patience_is_understood(
    world: World, value: str, least: float, most: float
) -> None:
    with FaultyServer(world.files, "B") as server:
        server.retry_after = value
        source = open_source(server.url, QUICK)
        with pytest.raises(TransportError, match="503") as caught:
            await source.get(next(iter(world.files)), 1 << 20)
        assert least <= caught.value.retry_after_s <= most
        await source.aclose()
