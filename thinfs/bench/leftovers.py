"""What processes that were killed leave behind: mounts, and other processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Final

from thinfs.bench.processes import MARK, wait_until
from thinfs.errors import StoreError

_END_TIMEOUT_S: Final = 10.0


def mounts_below(folder: Path) -> list[Path]:
    """Mount points at or below ``folder``, the last mounted first."""
    with Path("/proc/self/mountinfo").open("rb") as file:
        points = [_unescape(line.split()[4]) for line in file]
    return [point for point in points if point == folder or folder in point.parents][::-1]


def unmount_below(folder: Path) -> None:
    """Unmount everything at or below ``folder``, lazily where it is in use."""
    for point in mounts_below(folder):
        for options in ([], ["-l"]):
            command = ["umount", *options, "--", str(point)]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                break


def _unescape(field: bytes) -> Path:
    """The kernel writes space, tab, newline and backslash as three octal digits."""
    text = field.decode("utf-8", "surrogateescape")
    for code in (" ", "\t", "\n", "\\"):
        text = text.replace(f"\\{ord(code):03o}", code)
    return Path(text)


def kill_marked(folder: Path, mark: str = MARK) -> None:
    """Kill what was started for ``folder`` or a folder in it, and all that this started.

    Args:
        folder: of the processes.
        mark: the variable of their environment that names it.
    """
    for pid in marked(folder, mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(StoreError):
        wait_until(lambda: not marked(folder, mark), "processes to end", timeout_s=_END_TIMEOUT_S)


def marked(folder: Path, mark: str = MARK) -> list[int]:
    """Processes that carry the mark of ``folder``, and their descendants (containers)."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    value = f"{mark}={folder}".encode()
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
        with contextlib.suppress(OSError):
            stat = Path("/proc", str(pid), "stat").read_text()
            state, parent = stat.rpartition(")")[2].split()[:2]
            parents[pid] = int(parent)
            environment = Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
            if state != "Z" and any(e == value or e.startswith(value + b"/") for e in environment):
                found.add(pid)
    found.discard(os.getpid())
    return [pid for pid in parents if pid in found or _descends(pid, found, parents)]


def _descends(pid: int, ancestors: set[int], parents: dict[int, int]) -> bool:
    while (pid := parents.get(pid, 0)) > 1:
        if pid in ancestors:
            return True
    return False
