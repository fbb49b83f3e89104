"""A repository that accepts connections and never answers holds up nobody but its readers."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.repositories import directory, file, tree
from tests.support.sites import Site
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

READERS = 100
READ_TIMEOUT_S = 10.0


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of a server that only listens."""
    with socket.create_server(("127.0.0.1", 0), backlog=500) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.expects_log("does not answer|object|no answer within|did not arrive|not all of a read")
def test_warm_files_are_read_while_many_readers_wait(folder: Path, silent: str) -> None:
    site = Site(
        folder,
        sources={
            "allow": [silent],
            "timeout_s": 60.0,
            "read_timeout_s": READ_TIMEOUT_S,
            "connect_timeout_s": 60.0,
        },
    )
    cold = [file(b"cold-%03d" % number, os.urandom(200_000)) for number in range(READERS)]
    root = site.root(tree(directory(b""), file(b"warm", b"warm\n" * 40_000), *cold))
    with site.mounted(root) as at:
        assert len((at / "warm").read_bytes()) == 200_000
    moved = site.root(tree(directory(b""), file(b"warm", b"warm\n" * 40_000), *cold), urls=[silent])
    site.repository.rename(folder / "away")  # this machine's own repository is asked as well
    stuck = [f"cold-{number:03d}" for number in range(READERS)]
    failures: list[int | None] = []
    waited: list[float] = []
    with site.mounted(moved) as at, ThreadPoolExecutor(READERS + 1) as threads:
        started = threading.Semaphore(0)

        def read(name: str) -> None:
            handle = os.open(at / name, os.O_RDONLY)
            started.release()
            begin = time.monotonic()
            try:
                os.read(handle, 10)
            except OSError as error:
                failures.append(error.errno)
                waited.append(time.monotonic() - begin)
            finally:
                os.close(handle)

        for name in stuck:
            threads.submit(read, name)
        for _ in stuck:
            assert started.acquire(timeout=30)
        warm = threads.submit((at / "warm").read_bytes)
        assert len(warm.result(timeout=5)) == 200_000
        assert not failures
        wait_until(lambda: len(failures) == READERS, "all readers to be told", timeout_s=60)
    assert set(failures) == {errno.EIO}
    assert min(waited) > READ_TIMEOUT_S * 0.9
    assert max(waited) < READ_TIMEOUT_S * 1.8, "told once, after the configured time"
