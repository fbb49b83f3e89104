from __future__ import annotations

import pytest

from thinfs.bench.forwarder import MIN_QUEUE_BYTES, QUEUE_S, Direction, wire_bytes

MBIT_100 = 12_500_000.0


def packet(size: int, segment: int = 0) -> bytes:
    """A virtio header and ``size`` bytes behind it, in segments of ``segment`` bytes."""
    header = bytes([0, 1 if segment else 0, 0, 0, segment & 255, segment >> 8, 0, 0, 0, 0])
    return header + bytes(size)


def test_a_packet_arrives_after_its_time_on_the_line_and_the_delay() -> None:
    line = Direction(MBIT_100, delay_s=0.005)
    line.take(packet(12_500), now=10.0)
    assert line.due(10.0059) == []
    assert line.due(10.0061) == [packet(12_500)]
    assert line.due(11.0) == []


def test_packets_follow_each_other_at_the_rate() -> None:
    line = Direction(MBIT_100, delay_s=0.0)
    for _ in range(10):
        line.take(packet(12_500), now=0.0)
    assert [len(line.due(0.001 * n + 1e-6)) for n in range(1, 11)] == [1] * 10


def test_an_idle_line_saves_up_nothing() -> None:
    line = Direction(MBIT_100, delay_s=0.0)
    line.take(packet(12_500), now=0.0)
    line.due(5.0)
    line.take(packet(12_500), now=5.0)
    line.take(packet(12_500), now=5.0)
    assert len(line.due(5.0015)) == 1


def test_what_the_queue_cannot_hold_is_dropped_and_counted() -> None:
    line = Direction(MBIT_100, delay_s=0.0)
    held = max(QUEUE_S * MBIT_100, MIN_QUEUE_BYTES)
    for _ in range(60):
        line.take(packet(12_500), now=0.0)
    taken = len(line.due(1.0))
    assert taken + line.dropped == 60
    assert held <= taken * 12_500 <= held + 2 * 12_500


def test_a_slow_line_still_holds_whole_bursts() -> None:
    line = Direction(bytes_per_s=125_000.0, delay_s=0.0)
    line.take(packet(60_000, 1448), now=0.0)
    line.take(packet(60_000, 1448), now=0.0)
    assert line.dropped == 0


@pytest.mark.parametrize(
    ("size", "segment", "expected"),
    [(1500, 0, 1500), (52, 1448, 52), (52 + 1448, 1448, 1500 + 52), (65_000, 1448, 67_288)],
)
def test_a_burst_weighs_what_its_segments_weigh_on_a_wire(
    size: int, segment: int, expected: int
) -> None:
    assert wire_bytes(packet(size, segment)) == pytest.approx(expected, abs=52)
