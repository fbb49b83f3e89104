"""Figures of cold starts are what the benchmark says they are."""

from __future__ import annotations

import pytest

from tests.bench import report
from tests.bench.cold_rows import rows
from tests.bench.cold_storm_bench import Storm, objects
from thinfs.bench.values import Ready, Report, Series, Start, Traffic, parse_link

LINK = parse_link("100mbit,10ms")


def series(name: str, cold_s: float, megabytes: float, warm_s: float = 1.0) -> Series:
    """Three cold starts around the given time, and three warm ones."""

    def start(seconds: float) -> Start:
        traffic = Traffic(round(megabytes * 1e6), 0, 0, 0, 10, 1)
        return Start(0.1, 0.2, 0.3, None, seconds, traffic)

    cold = tuple(start(cold_s + more) for more in (5.0, 0.0, -0.1))
    return Series(name, name, name, cold, tuple(start(warm_s) for _ in range(3)))


def measured(*found: Series) -> dict[str, report.Values]:
    """The rows of a report with those series, by the end of their names."""
    whole = Report("x", (), Ready(), LINK, found, "machine", "1", 0.0)
    made = rows("cold.x.l", whole, LINK, pull_s=0.5, touched=10_000_000, peer=0.1)
    return {row["name"].removeprefix("cold.x.l."): row for row in made}


OURS = (series("lazy", 5.0, 40.0), series("profile", 3.0, 11.0), series("overlayfs", 40.0, 200.0))
PEERS = (series("estargz", 4.0, 38.0), series("optimised", 4.0, 30.0))


def test_each_form_of_thinfs_is_measured_by_the_same_form_of_estargz() -> None:
    found = measured(*OURS, *PEERS)
    assert (found["lazy"]["reference"], found["lazy"]["met"]) == (4.0, False)
    assert (found["profile"]["ratio"], found["profile"]["met"]) == (0.75, True)
    assert "goal" not in found["overlayfs"]


def test_without_estargz_its_known_ratio_to_overlayfs_takes_its_place() -> None:
    found = measured(*OURS)
    assert found["profile"]["reference"] == 4.0
    assert "reference" not in found["lazy"]


def test_what_cannot_be_avoided_is_a_warm_start_the_bytes_and_three_round_trips() -> None:
    found = measured(*OURS, *PEERS)
    assert found["profile.ideal"]["reference"] == pytest.approx(1.0 + 0.88 + 0.03)
    assert found["profile.pulled"]["reference"] == pytest.approx(1.0 + 0.88 + 0.03 + 0.5)
    assert found["profile.ideal"]["met"] is False


def test_bytes_are_compared_with_what_is_touched() -> None:
    found = measured(*OURS, *PEERS)
    assert (found["profile.bytes"]["ratio"], found["profile.bytes"]["met"]) == (1.1, True)
    assert found["estargz.mb"]["value"] == 38.0


def test_all_rows_are_what_a_results_file_takes() -> None:
    assert report.rows(measured(*OURS, *PEERS).values())


def test_figures_are_asked_for_by_the_beginning_of_their_names() -> None:
    assert report.asked("cold.redis.1gbit.", ["cold.redis."])
    assert report.asked("cold.redis.1gbit.", ["cold.redis.1gbit.profile"])
    assert report.asked("cold.redis.1gbit.", [])
    assert not report.asked("cold.redis.1gbit.", ["cold.redis.100mbit.", "warm."])


def test_objects_are_counted_as_often_as_the_web_server_has_sent_them() -> None:
    line = '127.0.0.1 - - [21/Nov/2026:04:00:00 +0000] "GET {} HTTP/1.1" {} 10 "-" "curl"\n'
    log = "".join(
        line.format(path, status)
        for path, status in (
            ("/objects/aa/aa1", 200),
            ("/objects/bb/bb1", 200),
            ("/objects/aa/aa1", 200),
            ("/objects/cc/cc1", 404),
            ("/catalogs/dd/dd1", 200),
        )
    )
    assert objects(log) == {"/objects/aa/aa1": 2, "/objects/bb/bb1": 1}


def test_the_spread_of_a_storm_is_that_of_the_image_whose_containers_differ_most() -> None:
    storm = Storm({"a": [1.0, 1.5], "b": [4.0, 12.0]}, 0)
    assert (storm.spread, storm.last_s) == (3.0, 12.0)
