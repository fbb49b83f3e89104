from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.bench_results import made_report, made_start
from thinfs.bench.statistics import MEASURES, Figure, figure, median_start, of_starts, ratio


def test_a_figure_is_median_and_spread() -> None:
    assert figure([3.0, 1.0, 2.0]) == Figure(2.0, 1.0, 3.0)
    assert figure([1.0, 2.0]) == Figure(1.5, 1.0, 2.0)


def test_one_unknown_value_makes_a_figure_unknown() -> None:
    assert figure([1.0, None]) is None
    assert figure([]) is None


def test_every_measure_is_taken_from_a_start() -> None:
    found = {each.key: of_starts(each, [made_start(1.0)]) for each in MEASURES}
    assert all(found.values())
    assert found["ready"] == Figure(1.0, 1.0, 1.0)


def test_what_only_our_daemon_knows_is_unknown_of_others() -> None:
    found = {each.key: of_starts(each, [made_start(1.0, thin=False)]) for each in MEASURES}
    assert {key for key, value in found.items() if value is None} == {"stalled", "unread"}


def test_the_median_start_is_one_that_happened() -> None:
    starts = [made_start(each) for each in (3.0, 1.0, 2.0)]
    assert median_start(starts) is starts[2]
    assert median_start(starts[:2]).ready_s == 1.0


def test_the_ratio_is_to_the_first_one_beside() -> None:
    report = made_report(1.0)
    assert ratio(report, report.series[0]) == pytest.approx(1 / 6)
    assert ratio(report, report.series[1]) is None
    assert ratio(replace(report, series=report.series[:1]), report.series[0]) is None


def test_there_is_no_ratio_of_what_was_not_measured() -> None:
    report = made_report(1.0, warm=False)
    assert ratio(report, report.series[0], "warm") is None
