"""Work folders of converters that begin at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from pathlib import Path

THREADS = 8
ROUNDS = 60


def test_converters_that_begin_together_leave_each_other_alone(tmp_path: Path) -> None:
    LocalRepository.open_or_create(tmp_path)

    def begin_again_and_again(_: int) -> None:
        for _round in range(ROUNDS):
            with LocalRepository.open(tmp_path).converting() as work:
                (work / "draft").write_bytes(b"x")

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(begin_again_and_again, range(THREADS)))
