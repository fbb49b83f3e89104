from __future__ import annotations

import struct

import pytest

from thinfs.bench.observer import _Seen, note, payload_bytes, program, thinned
from thinfs.bench.values import Sample

TABLE = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo:     100       2    0    0    0     0          0         0      100       2    0    0
 tfb1n: 1052000    1000    0    0    0     0          0         0    52000    1000    0    0
"""


def tcp(payload: bytes, *, flags: int = 0x18, options: int = 12, protocol: int = 6) -> bytes:
    """An IPv4 packet with TCP in it."""
    header = struct.pack("!HHIIBBHHH", 40000, 80, 1, 1, (20 + options) // 4 << 4, flags, 0, 0, 0)
    body = header + bytes(options) + payload
    return struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0, 1, 2) + body


def run(packet: bytes) -> int:
    """What the filter gives for a packet: an interpreter of the few instructions it has."""
    code, at, a, x = program(), 0, 0, 0
    while True:
        kind, true, false, k = code[at]
        at += 1
        if kind == 0x06:
            return k
        if kind == 0x15:
            at += true if a == k else false
        elif kind == 0xB1:
            x = (packet[k] & 15) * 4
        elif kind in {0x30, 0x50, 0x40}:
            begin = k + (0 if kind == 0x30 else x)
            width = 4 if kind == 0x40 else 1
            if begin + width > len(packet):
                return 0
            a = int.from_bytes(packet[begin : begin + width], "big")
        else:
            a = {0x54: a & k, 0x74: a >> k, 0x0C: a + x, 0x07: a}[kind]
            x = a if kind == 0x07 else x


def test_payload_is_what_a_device_counted_less_the_headers() -> None:
    assert payload_bytes(TABLE, "tfb1n", 52) == 1_000_000


def test_a_device_that_is_gone_is_an_error() -> None:
    with pytest.raises(KeyError):
        payload_bytes(TABLE, "tfb2n", 52)


@pytest.mark.parametrize(
    "packet",
    [
        tcp(b"GET /v2/ HTTP/1.1\r\n\r\n"),
        tcp(b"HEAD /x HTTP/1.1\r\n\r\n", options=0),
        tcp(b"POST /x HTTP/1.1\r\n\r\n"),
        tcp(b"HTTP/1.1 200 OK\r\n\r\n"),
        tcp(b"PRI * HTTP/2.0\r\n\r\n"),
        tcp(b"\x16\x03\x01\x02\x00hello"),
        tcp(b"", flags=0x02),
    ],
)
def test_the_kernel_is_told_to_keep_what_begins_something(packet: bytes) -> None:
    assert run(packet) > 0


@pytest.mark.parametrize(
    "packet",
    [
        tcp(b"the middle of a body"),
        tcp(b""),
        tcp(b"", flags=0x12),
        tcp(b"GET / HTTP/1.1\r\n\r\n", protocol=17),
        b"\x60" + bytes(60),
        b"\x00\x01\x08\x00\x06\x04",
    ],
)
def test_the_kernel_is_told_to_drop_the_rest(packet: bytes) -> None:
    assert run(packet) == 0


def test_requests_answers_and_connections_are_told_apart() -> None:
    seen = _Seen()
    note(seen, tcp(b"", flags=0x02), 1.0, outgoing=True)
    note(seen, tcp(b"GET /objects/aa HTTP/1.1\r\nHost: x\r\n\r\n"), 2.0, outgoing=True)
    note(seen, tcp(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"), 3.0, outgoing=False)
    assert seen.connections == [1.0]
    assert [(each.at_s, each.line) for each in seen.requests] == [(2.0, "GET /objects/aa")]
    assert seen.answers == [(3.0, len(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"))]
    assert not seen.opaque


def test_encrypted_traffic_is_noted_as_such() -> None:
    seen = _Seen()
    note(seen, tcp(b"\x16\x03\x01\x02\x00"), 1.0, outgoing=True)
    note(seen, tcp(b"PRI * HTTP/2.0\r\n\r\n"), 2.0, outgoing=True)
    assert seen.opaque == [1.0, 2.0]
    assert not seen.requests


def test_a_long_start_keeps_few_samples_and_the_last() -> None:
    samples = [Sample(n / 10, n) for n in range(2_500)]
    kept = thinned(samples, 100)
    assert len(kept) == 100
    assert kept[-1] == samples[-1]
    assert kept == sorted(kept, key=lambda each: each.at_s)
    assert thinned(samples[:7], 100) == samples[:7]
