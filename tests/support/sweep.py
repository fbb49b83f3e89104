"""Removes what tests that were killed left behind: processes, mounts, loop devices, folders.

Every folder with something running or mounted in it is made by :func:`make_folder` and named
``thinfs-test-<pid>-…`` after the process that made it. Only such folders, and only those whose
process is gone, are ever swept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from thinfs.bench.leftovers import kill_marked, mounts_below, unmount_below

__all__ = [
    "BASE",
    "MARK",
    "NAMESPACE",
    "PREFIX",
    "RUNTIME",
    "kill_processes",
    "make_folder",
    "mounts_below",
    "sweep_folder",
    "sweep_own",
    "sweep_stale",
    "unmount_below",
]

PREFIX = "thinfs-test-"
# Processes started for a test carry the test's folder in this variable.
MARK = "THINFS_TEST_FOLDER"
BASE = Path("/tmp")  # short on purpose: paths of unix sockets end at 107 bytes
# containerd's namespaces of tests, and where runc and shims keep state by namespace.
NAMESPACE = "thinfs-test-"
RUNTIME = (Path("/run/containerd/runc"), Path("/run/containerd/fifo"))


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


def _alive(folder: Path, prefix: str = PREFIX) -> bool:
    """Whether the process that a folder is named after still runs; true for names not of ours."""
    pid = folder.name.removeprefix(prefix).partition("-")[0]
    return not pid.isdecimal() or Path("/proc", pid).exists()


def kill_processes(folder: Path) -> None:
    """Kill what was started for ``folder`` or a folder in it, containers included."""
    kill_marked(folder, MARK)


def _detach_loops(folder: Path) -> None:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing.read_text().startswith(f"{folder}/"):
                device = Path("/dev", backing.parts[3])
                subprocess.run(["losetup", "-d", device], check=False, timeout=60)
