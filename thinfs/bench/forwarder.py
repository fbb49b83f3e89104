"""A line with a rate and a delay, between two TUN devices: for kernels without netem.

``python -m thinfs.bench.forwarder OUTSIDE NODE BITS_PER_S ROUND_TRIP_S`` makes both devices,
says ``ready``, and carries IP packets between them until its standard input ends; with it, the
devices go. Whoever started it moves the node's device into the node's network namespace.

The devices offer segmentation offload, so TCP sees an ordinary MTU of 1500 with its ordinary
first window, while one read here carries up to 64 KiB: 1 Gbit/s takes a seventh of one processor.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

QUEUE_S: Final = 0.010
"""What a direction holds back before it drops, in time at its rate: a switch's port buffer."""

MIN_QUEUE_BYTES: Final = 256 << 10
"""But at least this: four of the largest bursts that a sender makes."""

READY: Final = "ready"
_NICE: Final = -15
_BURST: Final = 32
"""Packets taken from one device before the other one is looked at."""

# linux/if_tun.h, linux/virtio_net.h, linux/prctl.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_TUN_F_CSUM: Final = 0x01
_TUN_F_TSO4: Final = 0x02
_PR_SET_TIMERSLACK: Final = 29
_VNET_HEADER_BYTES: Final = 10
_MAX_READ: Final = _VNET_HEADER_BYTES + 65536

_TCP_HEADERS_BYTES: Final = 52
"""IP and TCP headers with timestamps: what each segment of a burst adds on the wire."""


@dataclass(slots=True)
class Direction:
    """Packets on their way from one device to the other.

    Attributes:
        bytes_per_s: the rate.
        delay_s: one way.
        queue_s: how far the line may be booked ahead; what comes beyond is dropped.
        free_at: when the line has sent all it took.
        waiting: (when it arrives, packet), ascending.
        dropped: packets.
    """

    bytes_per_s: float
    delay_s: float
    queue_s: float = field(init=False)
    free_at: float = 0.0
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    dropped: int = 0

    def __post_init__(self) -> None:
        """Size the queue."""
        self.queue_s = max(QUEUE_S, MIN_QUEUE_BYTES / self.bytes_per_s)

    def take(self, packet: bytes, now: float) -> None:
        """Accept a packet with its virtio header, or drop it when the queue is full."""
        begin = max(self.free_at, now)
        if begin - now > self.queue_s:
            self.dropped += 1
            return
        self.free_at = begin + wire_bytes(packet) / self.bytes_per_s
        self.waiting.append((self.free_at + self.delay_s, packet))

    def due(self, now: float) -> list[bytes]:
        """Take out what has arrived."""
        arrived = []
        while self.waiting and self.waiting[0][0] <= now:
            arrived.append(self.waiting.popleft()[1])
        return arrived


def wire_bytes(packet: bytes) -> int:
    """Bytes of IP packets that a burst of segments becomes on a line.

    Args:
        packet: virtio header (type of segmentation at byte 1, segment's payload size at 4 and
            5, little endian) and an IP packet.
    """
    size = len(packet) - _VNET_HEADER_BYTES
    segment = packet[4] | packet[5] << 8
    if packet[1] == 0 or segment == 0:
        return size
    return size + (size - 1) // segment * _TCP_HEADERS_BYTES


def main(arguments: Sequence[str]) -> int:
    """Be the line between two new devices."""
    outside_name, node_name, bits_per_s, round_trip_s = arguments
    delay_s = float(round_trip_s) / 2
    outside, node = _open_tun(outside_name), _open_tun(node_name)
    _hurry()
    print(READY, flush=True)  # noqa: T201 - what its parent waits for
    lines = {
        outside: (node, Direction(float(bits_per_s) / 8, delay_s)),
        node: (outside, Direction(float(bits_per_s) / 8, delay_s)),
    }
    _forward(lines, sys.stdin.fileno())
    return 0


def _forward(lines: dict[int, tuple[int, Direction]], until: int) -> None:
    """Carry packets until descriptor ``until`` becomes readable."""
    watched = [*lines, until]
    while True:
        now = time.monotonic()
        waits = [line.waiting[0][0] - now for _, line in lines.values() if line.waiting]
        readable, _, _ = select.select(watched, (), (), max(0.0, min(waits)) if waits else None)
        if until in readable:
            return
        for source in readable:
            _read_burst(source, lines[source][1])
        now = time.monotonic()
        for target, line in lines.values():
            for packet in line.due(now):
                _write(target, packet)


def _read_burst(source: int, line: Direction) -> None:
    now = time.monotonic()
    for _ in range(_BURST):
        try:
            packet = os.read(source, _MAX_READ)
        except BlockingIOError:
            return
        except OSError:  # the device is down: nothing to carry
            return
        line.take(packet, now)


def _write(target: int, packet: bytes) -> None:
    try:
        os.write(target, packet)
    except OSError:  # the device is down or full: a line loses packets
        return


def _open_tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    fcntl.ioctl(fd, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    return fd


def _hurry() -> None:
    """Wake up on time: timers without slack, and before those who are measured."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    except PermissionError:  # a container without CAP_SYS_NICE: the delay is less exact
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
