"""What outlives the supervisor: kept by the service manager, given back at the next start.

systemd keeps descriptors for a service (``FileDescriptorStoreMax=``, sd_notify(3)) while the
service is restarted for whatever reason. Three are kept: the mount's device, the control
socket, and a memory file with what must be known about them.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from thinfs.supervisor.device import Mount, is_at
from thinfs.supervisor.notify import notify

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

log = logging.getLogger(__name__)

DEVICE, CONTROL, STATE = "thinfs-device", "thinfs-control", "thinfs-state"

FIRST: Final = 3
"""Descriptors that a service is given begin here (sd_listen_fds(3))."""

STATE_BYTES: Final = 8192
"""The memory file is written whole, in one step."""


class State(msgspec.Struct, frozen=True):
    """What the descriptors do not say themselves.

    Attributes:
        mountpoint: where the mount is.
        socket: where the control socket is.
        init: the kernel's FUSE_INIT request.
        answered: what it was answered; empty: nothing yet.
        numbers: major and minor number of the mount.
        mounted_ns: when it was made.
    """

    mountpoint: str
    socket: str
    init: bytes
    answered: bytes
    numbers: tuple[int, int]
    mounted_ns: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What an earlier supervisor of this service has left.

    Attributes:
        mount: is where it was.
        listening: the control socket.
        answered: see :class:`State`.
    """

    mount: Mount
    listening: socket.socket
    answered: bytes


class Store:
    """Puts a mount into the service manager's hands; harmless when there is none."""

    def __init__(self) -> None:
        self._state = -1

    def keep(self, state: State, device: int, listening: int) -> None:
        """Keep everything, or only the newer state when all else is kept already."""
        if self._state < 0:
            self._state = os.memfd_create(STATE, os.MFD_CLOEXEC)
            for name, descriptor in ((DEVICE, device), (CONTROL, listening), (STATE, self._state)):
                # Not dropped when it says HUP, as the device does when the mount is gone.
                notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", [descriptor])
        os.pwrite(self._state, msgspec.json.encode(state).ljust(STATE_BYTES), 0)

    def forget(self) -> None:
        """The mount goes away: nothing is to be given to the next one."""
        for name in (DEVICE, CONTROL, STATE):
            notify(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def take(self, mountpoint: Path, control: Path) -> Kept | None:
        """What was kept, if it is what is wanted now; all else is closed.

        Args:
            mountpoint: where the mount should be.
            control: where the control socket should be.
        """
        given = _given(os.environ)
        state = _state(given.get(STATE))
        if state is None or DEVICE not in given or CONTROL not in given:
            _close(given)
            return None
        if (state.mountpoint, state.socket) != (str(mountpoint), str(control)) or not is_at(
            mountpoint, state.numbers
        ):
            log.warning("the mount that was kept at %s is not taken over", state.mountpoint)
            _close(given)
            self.forget()
            return None
        self._state = given[STATE]
        mount = Mount(mountpoint, given[DEVICE], state.init, state.numbers, state.mounted_ns)
        log.info("taking over the mount at %s that the service manager kept", mountpoint)
        return Kept(mount, socket.socket(fileno=given[CONTROL]), state.answered)


def _given(environ: MutableMapping[str, str]) -> dict[str, int]:
    """Descriptors by name; the variables are removed, for children are given none of them."""
    mine = environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = environ.pop("LISTEN_FDS", "0")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if not mine or not count.isdecimal():
        return {}
    given = {}
    for descriptor, name in zip(range(FIRST, FIRST + int(count)), names, strict=False):
        os.set_inheritable(descriptor, False)
        given[name] = descriptor
    return given


def _state(descriptor: int | None) -> State | None:
    if descriptor is None:
        return None
    try:
        return msgspec.json.decode(os.pread(descriptor, STATE_BYTES, 0), type=State)
    except msgspec.DecodeError as error:
        log.warning("what the service manager kept cannot be read: %s", error)
        return None


def _close(given: dict[str, int]) -> None:
    for descriptor in given.values():
        os.close(descriptor)
