from __future__ import annotations

import pytest

from thinfs.bench.values import Ready, parse_link
from thinfs.errors import UsageError


@pytest.mark.parametrize(
    ("text", "bits_per_s", "round_trip_s"),
    [
        ("1gbit,1ms", 1_000_000_000, 0.001),
        ("100mbit,10ms", 100_000_000, 0.01),
        ("2.5Gbit, 200us", 2_500_000_000, 0.0002),
        ("512kbit,1s", 512_000, 1.0),
        ("10mbit", 10_000_000, 0.0),
    ],
)
def test_a_link_is_a_rate_and_a_round_trip(text: str, bits_per_s: int, round_trip_s: float) -> None:
    found = parse_link(text)
    assert found.bits_per_s == bits_per_s
    assert found.round_trip_s == pytest.approx(round_trip_s)


@pytest.mark.parametrize(
    "text", ["", "fast", "1gbit,1", "1gb,1ms", "1gbit,1ms,1ms", "0kbit,1ms", "1gbit,60s", "-1gbit"]
)
def test_other_links_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"--link"):
        parse_link(text)


@pytest.mark.parametrize("text", ["1gbit,1ms", "100mbit,10ms", "512kbit,0.5ms", "2.5gbit,0ms"])
def test_a_links_text_is_read_as_the_same_link(text: str) -> None:
    assert parse_link(parse_link(text).text) == parse_link(text)
    assert parse_link(text).text == text


@pytest.mark.parametrize(
    ("kind", "text", "option"),
    [
        ("line", "(", "--ready-line"),
        ("http", "127.0.0.1:80", "--ready-http"),
        ("http", "file:///etc/passwd", "--ready-http"),
        ("tcp", "0", "--ready-tcp"),
        ("tcp", "65536", "--ready-tcp"),
        ("tcp", "redis", "--ready-tcp"),
    ],
)
def test_what_cannot_be_waited_for_is_refused_by_its_option(
    kind: str, text: str, option: str
) -> None:
    with pytest.raises(UsageError, match=option):
        Ready(kind, text)  # type: ignore[arg-type]  # parametrised
