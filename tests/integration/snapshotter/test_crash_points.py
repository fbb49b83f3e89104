from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]


@pytest.fixture
def fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory if there is one: what SIGKILL leaves behind does not depend on disks."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    monkeypatch.setattr(sweep, "BASE", Path("/dev/shm"))
    made = sweep.make_folder("crash")
    yield made
    sweep.sweep_folder(made)


def deaths(folder: Path, stride: int, *more: str) -> tuple[int, list[tuple[int, str]]]:
    argv = [sys.executable, "-m", "tests.support.snapshot_crash", str(folder), str(stride), *more]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["deaths"], answer["faults"]


@pytest.mark.slow
def test_rows_and_directories_agree_whichever_line_the_snapshotter_is_killed_at(
    fast: Path,
) -> None:
    number, faults = deaths(fast, 1)
    assert not faults
    assert number > 1000


def test_a_snapshotter_that_deletes_directories_before_rows_is_found_out(fast: Path) -> None:
    _, faults = deaths(fast, 25, "broken")
    assert {fault for _, fault in faults} == {
        "view has no fs",
        "view has no work",
        "active has no fs",
        "active has no work",
    }
