"""When a transfer is too slow, and what an answer announces. Pure."""

from __future__ import annotations

import pytest

from thinfs.transfer import Answer, Pace, Patience, parse_head, without_password

PATIENCE = Patience(connect_s=5, silence_s=10, bytes_per_s=1024)


def test_a_connection_and_its_first_bytes_have_the_time_of_both() -> None:
    pace = Pace(PATIENCE, now=100)
    assert pace.deadline == 115
    assert pace.too_slow(115)


def test_silence_is_noticed_as_long_after_the_last_bytes_as_configured() -> None:
    pace = Pace(PATIENCE, now=100)
    pace.arrived(50_000, now=112)
    assert not pace.too_slow(115)
    assert pace.deadline == 122
    assert pace.too_slow(122)


def test_a_trickle_counts_as_silence() -> None:
    pace = Pace(PATIENCE, now=100)
    pace.arrived(50_000, now=115)
    assert not pace.too_slow(115)
    for second in range(116, 125):
        pace.arrived(1000, now=second)
    assert pace.too_slow(pace.deadline)


def test_what_comes_fast_enough_goes_on_for_ever() -> None:
    pace = Pace(PATIENCE, now=0)
    now = 0.0
    for _ in range(100):
        pace.arrived(10_241, now=now)
        now = pace.deadline
        assert not pace.too_slow(now)
        assert pace.deadline >= now


@pytest.mark.parametrize(
    ("text", "length"),
    [
        (b"17", 17),
        (b"", 0),
        (b"-1", 0),
        (b"1e9", 0),
        (b"\xb2", 0),
        (b"9" * 30, 0),
        (b" 5 ", 5),
        (b"5, 5", 0),
    ],
)
def test_only_a_plain_number_is_a_length(text: bytes, length: int) -> None:
    head = [b"HTTP/1.1 200 OK\r\n", b"Content-Length: " + text + b"\r\n", b"\r\n"]
    assert parse_head(head).length == length


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 503 Busy now\r\n", 503, "Busy now"),
        (b"HTTP/2 200 \r\n", 200, ""),
        (b"HTTP/1.0 404\r\n", 404, ""),
        (b"SSH-2.0\r\n", 0, ""),
        (b"HTTP/1.1 99 x\r\n", 0, ""),
    ],
)
def test_a_status_line_says_what_it_says(line: bytes, status: int, reason: str) -> None:
    answer = parse_head([line, b"Retry-After: 7\r\n", b"no header\r\n", b"\r\n"])
    assert (answer.status, answer.reason) == (status, reason)
    assert answer.headers == ({"retry-after": "7"} if status else {})


def test_no_head_is_no_answer() -> None:
    assert parse_head([]) == Answer()


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://user:secret@proxy:3128", "http://proxy:3128"),
        ("http://proxy:3128", "http://proxy:3128"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_proxys_password_is_never_shown(proxy: str | None, shown: str) -> None:
    assert without_password(proxy) == shown
