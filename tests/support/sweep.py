"""Removes what tests that were killed left behind: processes, mounts, loop devices, folders.

Every folder with something running or mounted in it is made by :func:`make_folder` and named
``thinfs-test-<pid>-…`` after the process that made it. Only such folders, and only those whose
process is gone, are ever swept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "thinfs-test-"
# Processes started for a test carry the test's folder in this variable.
MARK = "THINFS_TEST_FOLDER"
BASE = Path("/tmp")  # short on purpose: paths of unix sockets end at 107 bytes
# containerd's namespaces of tests, and where runc and shims keep state by namespace.
NAMESPACE = "thinfs-test-"
RUNTIME = (Path("/run/containerd/runc"), Path("/run/containerd/fifo"))
_KILL_TIMEOUT_S = 10


def make_folder(name: str) -> Path:
    """A new folder directly below /tmp, to be given back to :func:`sweep_folder`."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-{name}-", dir=BASE))


def sweep_stale() -> list[Path]:
    """Sweep the folders of test processes that are gone.

    Returns:
        The folders that were removed.
    """
    stale = [folder for folder in BASE.glob(f"{PREFIX}*") if not _alive(folder)]
    for folder in stale:
        sweep_folder(folder)
    for base in RUNTIME:
        for state in base.glob(f"{NAMESPACE}*"):
            if not _alive(state, NAMESPACE):
                shutil.rmtree(state, ignore_errors=True)
    return stale


def sweep_own() -> list[Path]:
    """Sweep the folders of this process: what its fixtures should have removed, and did not."""
    own = sorted(BASE.glob(f"{PREFIX}{os.getpid()}-*"))
    for folder in own:
        sweep_folder(folder)
    return own


def sweep_folder(folder: Path) -> None:
    """End the processes of ``folder``, unmount all below it, detach its loop devices, remove it."""
    kill_processes(folder)
    unmount_below(folder)
    _detach_loops(folder)
    shutil.rmtree(folder, ignore_errors=True)


def mounts_below(folder: Path) -> list[Path]:
    """Mount points at or below ``folder``, the last mounted first."""
    with Path("/proc/self/mountinfo").open("rb") as file:
        points = [_unescape(line.split()[4]) for line in file]
    inside = [p for p in points if p == folder or folder in p.parents]
    return inside[::-1]


def unmount_below(folder: Path) -> None:
    """Unmount everything at or below ``folder``, lazily where it is in use."""
    for point in mounts_below(folder):
        for options in ([], ["-l"]):
            done = subprocess.run(
                ["umount", *options, "--", point], capture_output=True, check=False, timeout=60
            )
            if done.returncode == 0:
                break


def _unescape(field: bytes) -> Path:
    """mountinfo writes space, tab, newline and backslash as three octal digits."""
    text = field.decode("utf-8", "surrogateescape")
    for code in (" ", "\t", "\n", "\\"):
        text = text.replace(f"\\{ord(code):03o}", code)
    return Path(text)


def _alive(folder: Path, prefix: str = PREFIX) -> bool:
    """Whether the process that a folder is named after still runs; true for names not of ours."""
    pid = folder.name.removeprefix(prefix).partition("-")[0]
    return not pid.isdecimal() or Path("/proc", pid).exists()


def kill_processes(folder: Path) -> None:
    """Kill what was started for ``folder`` or a folder in it, containers included."""
    for pid in _processes(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not _processes(folder), "processes to end", timeout_s=_KILL_TIMEOUT_S)


def _processes(folder: Path) -> list[int]:
    """Processes that were started for ``folder``, and what these started (containers)."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    value = f"{MARK}={folder}".encode()
    for pid in _pids():
        with contextlib.suppress(OSError):
            stat = Path("/proc", str(pid), "stat").read_text()
            state, parent = stat.rpartition(")")[2].split()[:2]
            parents[pid] = int(parent)
            environment = Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
            marked = any(e == value or e.startswith(value + b"/") for e in environment)
            if marked and state != "Z":
                found.add(pid)
    found.discard(os.getpid())
    return [pid for pid in parents if pid in found or _descends(pid, found, parents)]


def _descends(pid: int, ancestors: set[int], parents: dict[int, int]) -> bool:
    while (pid := parents.get(pid, 0)) > 1:
        if pid in ancestors:
            return True
    return False


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _detach_loops(folder: Path) -> None:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing.read_text().startswith(f"{folder}/"):
                device = Path("/dev", backing.parts[3])
                subprocess.run(["losetup", "-d", device], check=False, timeout=60)
