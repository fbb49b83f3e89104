"""A benchmark's own place on the machine, found again and cleaned when its process was killed.

Each benchmark holds one *slot*, a small number, by a lock on ``/run/thinfs-bench/<slot>.lock``.
Everything it makes is named after the slot: the scratch folder, the network namespace and
devices, the addresses, containerd's namespace. A slot whose lock can be taken belongs to nobody:
what is named after it is removed before the slot is used, whichever way its holder ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from thinfs.bench.outside import take_back
from thinfs.bench.processes import MARK, wait_until
from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCKS: Final = Path("/run/thinfs-bench")
MAX_SLOTS: Final = 250
RUNTIME: Final = (Path("/run/containerd/runc"), Path("/run/containerd/fifo"))
"""Where runc and shims keep state by containerd's namespace, whatever containerd's own paths."""

_END_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Scratch:
    """What one benchmark may use.

    Attributes:
        slot: 1 to :data:`MAX_SLOTS`.
        folder: empty, on a disk with room.
    """

    slot: int
    folder: Path

    @property
    def name(self) -> str:
        """Of network namespace and containerd namespace."""
        return name_of(self.slot)


def name_of(slot: int) -> str:
    """What is named after a slot."""
    return f"thinfs-bench-{slot}"


@contextlib.contextmanager
def scratch(base: Path) -> Iterator[Scratch]:
    """Hold a slot and a folder below ``base``, and leave nothing of either behind.

    Slots whose holders were killed are cleaned first.

    Raises:
        StoreError: ``base`` cannot be written, or all slots are held.
    """
    with contextlib.ExitStack() as stack:
        try:
            LOCKS.mkdir(mode=0o700, exist_ok=True)
            slot = _take_slot(stack)
            folder = base / name_of(slot)
            (LOCKS / f"{slot}.folder").write_text(str(folder))
            folder.mkdir(mode=0o711, parents=True)
        except OSError as error:
            raise StoreError(f"no place for a benchmark below {base}: {error}") from error
        try:
            yield Scratch(slot, folder)
        finally:
            _clean(slot)


def _take_slot(stack: contextlib.ExitStack) -> int:
    """Clean every slot that nobody holds; hold the first of them."""
    mine = 0
    for slot in range(1, MAX_SLOTS + 1):
        lock = LOCKS / f"{slot}.lock"
        if mine and not lock.exists():
            continue
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            continue
        _clean(slot)
        if mine:
            os.close(fd)
            continue
        stack.callback(os.close, fd)
        mine = slot
    if not mine:
        raise StoreError(f"{MAX_SLOTS} benchmarks run on this machine already")
    return mine


def _clean(slot: int) -> None:
    """Remove what is named after a slot whose lock this process holds."""
    named = LOCKS / f"{slot}.folder"
    folder = Path(named.read_text()) if named.exists() else None
    if folder is not None and folder.name == name_of(slot):
        kill_marked(folder)
        unmount_below(folder)
    remove_network(slot)
    for base in RUNTIME:
        shutil.rmtree(base / name_of(slot), ignore_errors=True)
    if folder is not None and folder.name == name_of(slot):
        shutil.rmtree(folder, ignore_errors=True)
    named.unlink(missing_ok=True)


def remove_network(slot: int) -> None:
    """Remove the network of a slot, as far as it is there."""
    if settings_of(slot).exists():
        take_back(outside_device(slot), node_address(slot), settings_of(slot))
    for command in (
        ["ip", "netns", "delete", name_of(slot)],
        ["ip", "link", "delete", outside_device(slot)],
    ):
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(command, capture_output=True, check=False, timeout=60)


def outside_device(slot: int) -> str:
    """The network device outside of a slot's namespace."""
    return f"tfb{slot}o"


def node_device(slot: int) -> str:
    """The network device inside of a slot's namespace."""
    return f"tfb{slot}n"


def node_address(slot: int) -> str:
    """The address of a slot's node on its line."""
    return f"198.18.{slot}.2"


def settings_of(slot: int) -> Path:
    """Where settings of this machine that a slot has changed are noted."""
    return LOCKS / f"{slot}.settings"


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


def kill_marked(folder: Path) -> None:
    """Kill what was started for ``folder`` or a folder in it, and all that this started."""
    for pid in marked(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(StoreError):
        wait_until(lambda: not marked(folder), "processes to end", timeout_s=_END_TIMEOUT_S)


def marked(folder: Path) -> list[int]:
    """Processes that carry the mark of ``folder``, and their descendants (containers)."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    value = f"{MARK}={folder}".encode()
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
