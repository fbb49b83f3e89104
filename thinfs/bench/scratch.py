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
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from thinfs.bench.leftovers import kill_marked, unmount_below
from thinfs.bench.outside import take_back
from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCKS: Final = Path("/run/thinfs-bench")
MAX_SLOTS: Final = 250
RUNTIME: Final = (Path("/run/containerd/runc"), Path("/run/containerd/fifo"))
"""Where runc and shims keep state by containerd's namespace, whatever containerd's own paths."""


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
