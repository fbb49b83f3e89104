from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.bench_results import made_report, made_start
from thinfs.bench.statistics import (
    MEASURES,
    Figure,
    disagreement,
    figure,
    median_start,
    of_starts,
    ratio,
)
from thinfs.bench.values import Sample

if TYPE_CHECKING:
    from thinfs.bench.values import Start


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


def counted(*, line: int, headers: int, daemon: int, pulled: int) -> Start:
    """A start of which both sides say what they counted."""
    start = made_start(1.0)
    assert start.details is not None
    return replace(
        start,
        pulled_s=0.1,
        traffic=replace(
            start.traffic,
            settled_bytes=line,
            settled_header_bytes=headers,
            samples=(Sample(0.05, pulled), Sample(0.5, line)),
        ),
        details=replace(start.details, settled_bytes=daemon),
    )


def test_headers_and_the_clients_pull_are_no_disagreement() -> None:
    assert disagreement(counted(line=1_060, headers=10, daemon=1_000, pulled=50)) == 0


def test_bytes_that_nobody_counted_are_a_disagreement() -> None:
    found = disagreement(counted(line=1_210, headers=10, daemon=1_000, pulled=50))
    assert found == pytest.approx(150 / 1_200)


def test_bytes_that_never_crossed_the_line_are_one_too() -> None:
    found = disagreement(counted(line=1_000, headers=0, daemon=1_200, pulled=50))
    assert found == pytest.approx(0.2)


def test_what_has_no_daemon_of_ours_cannot_disagree() -> None:
    assert disagreement(made_start(1.0, thin=False)) == 0


def test_there_is_no_ratio_of_what_was_not_measured() -> None:
    report = made_report(1.0, warm=False)
    assert ratio(report, report.series[0], "warm") is None
