"""What crosses a node's line, counted where it reaches the node: bytes, requests, connections.

Bytes are the device's own counters less the headers of each packet. Requests are the packets
that begin as an HTTP request does: the kernel picks them out (a classic BPF filter on a packet
socket), so a line at full speed costs nothing here. Encrypted traffic shows no requests, and
says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from thinfs.bench.namespaces import call_in
from thinfs.bench.values import Request, Sample, Traffic

if TYPE_CHECKING:
    from thinfs.bench.network import Network

SAMPLE_S: Final = 0.010
MAX_SAMPLES: Final = 1_000
"""Kept in a result; a longer start is thinned out."""

MAX_REQUESTS: Final = 5_000
QUIET_S: Final = 0.3
"""A line on which nothing arrives for so long has settled."""

MAX_SETTLE_S: Final = 5.0

_ETH_P_ALL: Final = 0x0003  # sockets for one protocol see nothing of what leaves
_SO_ATTACH_FILTER: Final = 26
_SNAP_BYTES: Final = 4096
_RECEIVE_BUFFER_BYTES: Final = 4 << 20
_IPV4: Final = 0x40
_IP_TCP: Final = 6
_SYN, _ACK = 0x02, 0x10
_METHODS: Final = (b"GET ", b"HEAD", b"POST", b"PUT ", b"PATC", b"DELE")
_ANSWER: Final = b"HTTP"
_HTTP2: Final = b"PRI "
_TLS_HANDSHAKE: Final = b"\x16\x03"


@dataclass(slots=True)
class _Seen:
    """What was found in packets so far.

    Attributes:
        requests: in the order of their packets.
        answers: (when, header bytes).
        connections: when each one began.
        opaque: when traffic began whose requests cannot be seen, if there is any.
    """

    requests: list[Request] = field(default_factory=list)
    answers: list[tuple[float, int]] = field(default_factory=list)
    connections: list[float] = field(default_factory=list)
    opaque: list[float] = field(default_factory=list)


class Observer:
    """Watches a network's line from enter to exit; all times are ``time.time()``.

    Args:
        network: whose node is watched.
    """

    def __init__(self, network: Network) -> None:
        self._device = network.device
        self._headers = network.headers
        self._namespace = network.namespace
        self._seen = _Seen()
        self._samples: list[tuple[float, int]] = []
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        self._counters, self._packets = call_in(self._namespace, self._open)
        self._threads = [
            threading.Thread(target=target, name="observer", daemon=True)
            for target in (self._watch_counters, self._watch_packets)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        os.close(self._counters)
        self._packets.close()

    def received(self) -> int:
        """Payload that has reached the node since its device exists."""
        text = os.pread(self._counters, 1 << 16, 0).decode()
        return payload_bytes(text, self._device, self._headers)

    def settle(self) -> None:
        """Return when nothing has arrived for :data:`QUIET_S`; give up after a while."""
        deadline = time.monotonic() + MAX_SETTLE_S
        last, since = self.received(), time.monotonic()
        while time.monotonic() - since < QUIET_S and time.monotonic() < deadline:
            time.sleep(SAMPLE_S)
            now = self.received()
            if now != last:
                last, since = now, time.monotonic()

    def traffic(self, began: float, ready: float, before: int, at_ready: int) -> Traffic:
        """What crossed the line since ``began``; call it when the line has settled.

        Args:
            began: when the start began.
            ready: when the container was ready.
            before: :meth:`received` at ``began``.
            at_ready: the same at ``ready``.
        """
        seen = self._seen
        requests = [each for each in list(seen.requests) if began <= each.at_s <= ready]
        opaque = any(began <= at <= ready for at in list(seen.opaque))
        answers = [each for each in list(seen.answers) if each[0] >= began]
        samples = [
            Sample(at - began, count - before) for at, count in list(self._samples) if at >= began
        ]
        return Traffic(
            bytes=at_ready - before,
            header_bytes=sum(size for at, size in answers if at <= ready),
            settled_bytes=self.received() - before,
            settled_header_bytes=sum(size for _, size in answers),
            requests=None if opaque else len(requests),
            connections=sum(began <= at <= ready for at in list(seen.connections)),
            samples=tuple(thinned(samples, MAX_SAMPLES)),
            seen=tuple(Request(each.at_s - began, each.line) for each in requests[:MAX_REQUESTS]),
        )

    def _open(self) -> tuple[int, socket.socket]:
        counters = os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        _attach(packets, program())
        packets.bind((self._device, _ETH_P_ALL))
        packets.settimeout(0.2)
        return counters, packets

    def _watch_counters(self) -> None:
        last = -1
        while not self._ending.wait(SAMPLE_S):
            count = self.received()
            if count != last:
                self._samples.append((time.time(), count))
                last = count

    def _watch_packets(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                packet, address = self._packets.recvfrom(_SNAP_BYTES)
                outgoing = address[2] == socket.PACKET_OUTGOING
                note(self._seen, packet, time.time(), outgoing=outgoing)


def payload_bytes(table: str, device: str, headers: int) -> int:
    """Payload received by a device.

    Args:
        table: text of ``/proc/net/dev``.
        device: its name.
        headers: bytes of headers counted with each packet.

    Raises:
        KeyError: there is no such device.
    """
    for line in table.splitlines():
        name, colon, figures = line.partition(":")
        if colon and name.strip() == device:
            received, packets = figures.split()[:2]
            return max(0, int(received) - headers * int(packets))
    raise KeyError(device)


def note(seen: _Seen, packet: bytes, now: float, *, outgoing: bool) -> None:
    """Note what one IP packet that passed the filter is."""
    tcp = (packet[0] & 15) * 4
    flags = packet[tcp + 13]
    payload = packet[tcp + (packet[tcp + 12] >> 4) * 4 :]
    if outgoing and flags & (_SYN | _ACK) == _SYN:
        seen.connections.append(now)
    elif payload[:2] == _TLS_HANDSHAKE or payload[:4] == _HTTP2:
        seen.opaque.append(now)
    elif outgoing and payload[:4] in _METHODS:
        line = payload.partition(b"\r\n")[0].rpartition(b" HTTP/")[0]
        seen.requests.append(Request(now, line.decode("ascii", "replace")))
    elif not outgoing and payload[:4] == _ANSWER:
        head, end, _ = payload.partition(b"\r\n\r\n")
        seen.answers.append((now, len(head) + len(end)))


def thinned(samples: list[Sample], most: int) -> list[Sample]:
    """At most ``most`` of ``samples``, evenly, the last one among them."""
    if len(samples) <= most:
        return samples
    return [samples[(index + 1) * len(samples) // most - 1] for index in range(most)]


# linux/bpf_common.h: loads of a byte and of a word behind register X, and what is done with them
_LD_BYTE, _LD_BYTE_X, _LD_WORD_X, _LDX_IP_LENGTH = 0x30, 0x50, 0x40, 0xB1
_AND, _RSH, _ADD_X, _TAX, _RETURN, _JUMP_EQUAL = 0x54, 0x74, 0x0C, 0x07, 0x06, 0x15


def program() -> list[tuple[int, int, int, int]]:
    """The filter: (code, jump when true, jump when false, constant) of each instruction.

    Data begin with the packet's IP header. Loads behind the end drop the packet: the kernel
    has it so.
    """
    words = [int.from_bytes(each, "big") for each in (*_METHODS, _ANSWER, _HTTP2)]
    drop, accept = len(words) + 17, len(words) + 18
    return [
        (_LD_BYTE, 0, 0, 0),
        (_AND, 0, 0, 0xF0),
        (_JUMP_EQUAL, 0, drop - 3, _IPV4),
        (_LD_BYTE, 0, 0, 9),
        (_JUMP_EQUAL, 0, drop - 5, _IP_TCP),
        (_LDX_IP_LENGTH, 0, 0, 0),
        (_LD_BYTE_X, 0, 0, 13),
        (_AND, 0, 0, _SYN | _ACK),
        (_JUMP_EQUAL, accept - 9, 0, _SYN),
        (_LD_BYTE_X, 0, 0, 12),
        (_AND, 0, 0, 0xF0),
        (_RSH, 0, 0, 2),
        (_ADD_X, 0, 0, 0),
        (_TAX, 0, 0, 0),
        (_LD_WORD_X, 0, 0, 0),
        *((_JUMP_EQUAL, accept - 16 - at, 0, word) for at, word in enumerate(words)),
        (_RSH, 0, 0, 16),
        (_JUMP_EQUAL, 1, 0, int.from_bytes(_TLS_HANDSHAKE, "big")),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _SNAP_BYTES),
    ]


def _attach(packets: socket.socket, instructions: list[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("HBBI", *each) for each in instructions)
    buffer = ctypes.create_string_buffer(code)
    filter_ = struct.pack("HL", len(instructions), ctypes.addressof(buffer))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
