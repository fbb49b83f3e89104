"""Three mirrors behind two proxies, each failing in turn while a cold image is read."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.faulty_http import FaultyServer
from tests.support.http_proxy import HttpProxy
from tests.support.repositories import directory, file, tree
from tests.support.sites import Site
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.mount

READERS = 8
FILES = 400
RESET_S = 3.0
BETWEEN = 20
"""New files that are read while something is broken, before the next thing breaks."""


class World:
    """A repository at three addresses, two proxies, and a node that knows them all."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.bodies = {f"file-{number:03d}": os.urandom(140_000) for number in range(FILES)}
        self.proxies = [stack.enter_context(HttpProxy()) for _ in range(2)]
        self.mirrors = [stack.enter_context(FaultyServer({})) for _ in range(3)]
        urls = [mirror.url for mirror in self.mirrors]
        self.site = Site(
            folder,
            sources={
                "allow": urls,
                "mirrors": urls,
                "proxies": ";".join(proxy.url for proxy in self.proxies),
                "connect_timeout_s": 1.0,
                "timeout_s": 1.0,
                "proxy_timeout_s": 1.0,
                "attempts": 2,
                "proxy_reset_s": RESET_S,
                "host_reset_s": RESET_S,
                "connections": 8,
            },
        )
        files = [file(name.encode(), body) for name, body in self.bodies.items()]
        self.root = self.site.root(tree(directory(b""), *files), urls=urls)
        served = {
            str(path.relative_to(self.site.repository)): path.read_bytes()
            for path in self.site.repository.rglob("*")
            if path.is_file()
        }
        for mirror in self.mirrors:
            mirror.files = served

    def faults(self) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
        """Each part that fails in turn: what, how it begins, how it ends."""
        for number, (mirror, letter) in enumerate(zip(self.mirrors, "sk5", strict=True)):
            yield (
                f"mirror {number}",
                _setter(mirror, "otherwise", letter),
                _setter(mirror, "otherwise", "r"),
            )
        for number, (proxy, mode) in enumerate(
            zip(self.proxies, ("silent", "hang up"), strict=True)
        ):
            yield f"proxy {number}", _setter(proxy, "mode", mode), _setter(proxy, "mode", "forward")
        both = (
            _setter(self.mirrors[0], "otherwise", "w"),
            _setter(self.proxies[0], "mode", "busy"),
        )
        well = (
            _setter(self.mirrors[0], "otherwise", "r"),
            _setter(self.proxies[0], "mode", "forward"),
        )
        yield "wrong bytes and a busy proxy", lambda: _all(both), lambda: _all(well)


def _setter(target: object, name: str, value: str) -> Callable[[], None]:
    return lambda: setattr(target, name, value)


def _all(steps: tuple[Callable[[], None], ...]) -> None:
    for step in steps:
        step()


@pytest.mark.slow
@pytest.mark.expects_log("does not answer|is damaged")
def test_no_reader_notices_and_the_preferred_ones_are_used_again(folder: Path) -> None:
    with ExitStack() as stack:
        world = World(folder, stack)
        stack.enter_context(world.site.daemon())
        with world.site.client() as client:
            at = Path(client.attach("test", world.root.text).directory)
        spare = sorted(world.bodies)[-20:]
        names = sorted(set(world.bodies) - set(spare))
        read: Counter[str] = Counter()
        wrong: list[str] = []
        pace = threading.Semaphore(0)

        def reader(seed: int) -> None:
            for name in random.Random(seed).sample(names, len(names)):
                if not read[name]:
                    pace.acquire()
                try:
                    if (at / name).read_bytes() != world.bodies[name]:
                        wrong.append(f"{name}: wrong bytes")
                except OSError as error:
                    wrong.append(f"{name}: {error}")
                read[name] += 1

        readers = [
            threading.Thread(target=reader, args=[seed], daemon=True) for seed in range(READERS)
        ]
        for thread in readers:
            thread.start()
        for what, begin, end in world.faults():
            begin()
            on = partial(_go_on, pace, read, len(read) + BETWEEN)
            wait_until(on, f"reads while {what} fails")
            end()
        pace.release(FILES * READERS)
        for thread in readers:
            thread.join()
        assert wrong == []
        assert set(read.values()) == {READERS}
        assert all(proxy.requests for proxy in world.proxies)
        assert all(mirror.requests for mirror in world.mirrors)

        def preferred() -> bool:
            """Reads one more cold file: did the first mirror bring it, through the first proxy?"""
            before = len(world.mirrors[0].requests), len(world.proxies[0].requests)
            name = spare.pop()
            assert (at / name).read_bytes() == world.bodies[name]
            return len(world.mirrors[0].requests) > before[0] and (
                len(world.proxies[0].requests) > before[1]
            )

        _wait_for_reset(world)
        assert preferred()
        assert preferred()
        with world.site.client() as client:
            circuits = {circuit.address: circuit for circuit in client.status().fetch.circuits}
        assert circuits[world.mirrors[0].url].ok
        assert circuits[world.mirrors[0].url].failures > 0
        assert circuits[world.proxies[0].url].ok


def _go_on(pace: threading.Semaphore, read: Counter[str], goal: int) -> bool:
    """Let one more file be read that nobody has read yet; says whether there are enough."""
    pace.release()
    return len(read) >= goal


def _wait_for_reset(world: World) -> None:
    """Until the daemon says that what failed is preferred again."""

    def over() -> bool:
        with world.site.client() as client:
            circuits = client.status().fetch.circuits
        return all(circuit.next_try_s == 0 for circuit in circuits)

    wait_until(over, "the reset times", timeout_s=RESET_S + 30)
