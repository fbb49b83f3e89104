from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.bench_results import made_report
from thinfs.bench.baseline import changes, parse_percent
from thinfs.bench.values import Link, Series
from thinfs.errors import UsageError


def regressed(now: tuple[float, ...], before: tuple[float, ...], allowed: float = 0.1) -> list[str]:
    found = changes(made_report(*now), made_report(*before), allowed)
    return [f"{each.temperature} {each.measure}" for each in found if each.regressed]


def test_a_median_above_what_is_allowed_has_regressed() -> None:
    assert regressed((1.2, 1.2, 1.2), (1.0, 1.0, 1.0)) == ["cold ready", "warm ready"]


def test_one_slow_start_of_three_has_not() -> None:
    assert regressed((1.0, 1.0, 3.0), (1.0, 1.0, 1.0)) == []


def test_exactly_what_is_allowed_has_not() -> None:
    assert regressed((1.1,), (1.0,)) == []


def test_faster_has_not() -> None:
    assert regressed((0.5,), (1.0,)) == []


def test_a_few_milliseconds_are_noise_however_many_percent() -> None:
    assert regressed((0.025,), (0.010,)) == []


def test_more_bytes_regress_too() -> None:
    now, before = made_report(), made_report()
    heavier = tuple(
        replace(start, traffic=replace(start.traffic, bytes=12_000_000))
        for start in now.series[0].cold
    )
    now = replace(now, series=(replace(now.series[0], cold=heavier), now.series[1]))
    found = [each for each in changes(now, before, 0.1) if each.regressed]
    assert [each.measure for each in found] == ["bytes"]
    assert found[0].text == "thin cold bytes: 12.0 MB, was 10.0 MB (+20 %)"


def test_what_is_measured_beside_it_fails_nobody() -> None:
    now, before = made_report(), made_report()
    slower = replace(now.series[1], cold=now.series[0].cold * 3)
    assert not any(
        each.regressed
        for each in changes(replace(now, series=(now.series[0], slower)), before, 0.0)
    )


def test_only_the_same_thing_can_be_compared() -> None:
    now = made_report()
    with pytest.raises(UsageError, match="another link"):
        changes(now, replace(now, link=Link(10_000_000, 0.05)), 0.1)
    with pytest.raises(UsageError, match="another command"):
        changes(now, replace(now, command=("true",)), 0.1)


def test_a_baseline_of_others_says_so() -> None:
    now = made_report()
    other = Series("stargz", "x", "stargz", now.series[0].cold)
    with pytest.raises(UsageError, match="did not measure thin"):
        changes(now, replace(now, series=(other,)), 0.1)


def test_a_baseline_without_warm_starts_compares_cold_ones() -> None:
    found = changes(made_report(), made_report(warm=False), 0.1)
    assert {each.temperature for each in found} == {"cold"}


@pytest.mark.parametrize(("text", "part"), [("10%", 0.1), ("0%", 0.0), ("2.5 %", 0.025)])
def test_percentages_are_read(text: str, part: float) -> None:
    assert parse_percent(text) == pytest.approx(part)


@pytest.mark.parametrize("text", ["10", "0.1", "%", "-5%", "ten%"])
def test_other_texts_are_no_percentages(text: str) -> None:
    with pytest.raises(UsageError, match="--max-regress"):
        parse_percent(text)
