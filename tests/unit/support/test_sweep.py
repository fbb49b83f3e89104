"""The sweep removes what is ours and nothing else."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.support import needs, sweep
from tests.support.processes import Process
from tests.support.wait import wait_until


def test_a_process_and_its_children_end_with_their_folder(folder: Path) -> None:
    process = Process(["sh", "-c", "sleep 600 & echo $!; wait"], folder=folder, name="p")
    wait_until(lambda: process.log.read_text().strip() != "", "the child's id")
    child = int(process.log.read_text())
    sweep.kill_processes(folder)
    assert process.stop() == -9
    assert _command_line(child) == b""


def test_a_process_of_another_folder_stays(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "ab").mkdir()
    with Process(["sleep", "600"], folder=folder / "ab", name="p") as process:
        sweep.kill_processes(folder / "a")
        assert process.running


def test_stacked_mounts_with_odd_names_are_unmounted(folder: Path) -> None:
    needs.root()
    point = folder / "with space\tand\\"
    point.mkdir()
    for _ in range(2):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=True)
    assert sweep.mounts_below(folder) == [point, point]
    sweep.unmount_below(folder)
    assert sweep.mounts_below(folder) == []


def test_folders_of_living_processes_are_not_stale(folder: Path) -> None:
    dead = sweep.BASE / f"{sweep.PREFIX}999999999-x"
    dead.mkdir(exist_ok=True)
    assert dead in sweep.sweep_stale()
    assert not dead.exists()
    assert folder.exists()


def test_a_folder_that_is_named_like_ours_by_somebody_else_stays() -> None:
    other = Path(tempfile.mkdtemp(prefix=f"{sweep.PREFIX}not-a-pid-", dir=sweep.BASE))
    try:
        assert other not in sweep.sweep_stale()
        assert other.exists()
    finally:
        other.rmdir()


def _command_line(pid: int) -> bytes:
    """Empty once the process has ended, whether or not it was reaped."""
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes()
    except FileNotFoundError:
        return b""
