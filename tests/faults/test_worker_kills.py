"""Fifty workers are killed, at moments that nobody chose, under readers of a cold image."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.checked_readers import CheckedReaders
from tests.support.repositories import directory, file, tree
from tests.support.sites import is_mounted

if TYPE_CHECKING:
    from tests.support.sites import Site

pytestmark = [
    pytest.mark.mount,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.expects_log("another one takes over its mount|have ended at once"),
]

KILLS = 50
FILES = 2000
READERS = 8
LONGEST_S = 0.3


def test_no_byte_is_wrong_and_no_read_fails_while_fifty_workers_are_killed(site: Site) -> None:
    seed = time.time_ns()
    chance = random.Random(seed)
    bodies = {f"f{n:04d}": chance.randbytes(500 + 7919 * (n % 50)) for n in range(FILES)}
    made = site.root(tree(directory(b""), *(file(os.fsencode(n), b) for n, b in bodies.items())))
    names = chance.sample(sorted(bodies), FILES)
    with site.daemon(), site.client() as client, ThreadPoolExecutor(READERS) as threads:
        readers = CheckedReaders(Path(client.attach("one", made.text).directory), bodies)
        reads = [threads.submit(readers.read, name) for name in names]
        for number in range(KILLS):
            readers.wait_for(FILES * number // (KILLS + 1))
            pid = client.status().worker.pid
            # At any moment of what the worker does, starting included.
            time.sleep(chance.uniform(0.0, LONGEST_S))
            os.kill(pid, signal.SIGKILL)
        for read in reads:
            read.result(timeout=300)
        worker = client.status().worker
    assert readers.wrong == [], f"seed {seed}"
    assert readers.done == FILES
    assert worker.restarts == KILLS
    assert not is_mounted(site.mountpoint)
