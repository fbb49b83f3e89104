"""Converters together, collectors alone, and nobody kept out for ever."""

from __future__ import annotations

import fcntl
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.wait import wait_until
from thinfs.errors import StoreError
from thinfs.store.local import LocalRepository
from thinfs.store.locks import exclusive, shared

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return LocalRepository.open_or_create(tmp_path / "repo").path


def test_several_converters_work_at_once(repository: Path) -> None:
    with shared(repository), shared(repository):
        pass


def test_nothing_is_collected_while_a_converter_works(repository: Path) -> None:
    with (
        LocalRepository(repository).converting(),
        pytest.raises(StoreError, match=r"at work on it for all of 0\.05 s"),
        exclusive(repository, 0.05),
    ):
        pass


def test_only_one_collects(repository: Path) -> None:
    with exclusive(repository, 0), pytest.raises(StoreError), exclusive(repository, 0):
        pass


def test_converters_that_follow_each_other_do_not_keep_a_collector_out(repository: Path) -> None:
    """One that comes while the collector waits goes in after it."""
    order: list[str] = []
    first = shared(repository)
    first.__enter__()
    collector_in = threading.Event()
    collector_done = threading.Event()

    def collect() -> None:
        with exclusive(repository, 60):
            order.append("collector")
            collector_in.set()
            collector_done.wait(60)

    def convert() -> None:
        with shared(repository):
            order.append("converter")

    threads = [threading.Thread(target=collect)]
    threads[0].start()
    wait_until(lambda: _gate_is_shut(repository), "the collector to wait")
    threads.append(threading.Thread(target=convert))
    threads[1].start()
    first.__exit__(None, None, None)
    assert collector_in.wait(60)
    collector_done.set()
    for thread in threads:
        thread.join(60)
    assert order == ["collector", "converter"]


def _gate_is_shut(repository: Path) -> bool:
    with (repository / "gate").open("ab") as gate:
        try:
            fcntl.flock(gate, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
