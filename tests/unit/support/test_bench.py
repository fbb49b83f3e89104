"""The one door of the benchmarks: what it selects, shows and keeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.bench import __main__ as door
from tests.bench import report

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [
    {"name": "a.first", "value": 1.23456, "unit": "s", "goal": 2.0, "met": True},
    {"name": "a.second", "value": 3.0, "unit": "s", "reference": 1.5, "ratio": 2.0, "met": False},
]


def test_every_benchmark_is_found() -> None:
    assert {"catalog", "convert"} <= set(door.topics())


def test_a_prefix_selects_the_benchmarks_that_can_answer_it() -> None:
    assert door.selected(["catalog", "convert"], []) == ["catalog", "convert"]
    assert door.selected(["catalog", "convert"], ["convert.debian"]) == ["convert"]
    assert door.matches("convert.debian.ratio", ["convert.debian"])
    assert not door.matches("convert.big", ["convert.debian"])


def test_the_table_is_aligned_and_says_what_was_missed() -> None:
    lines = report.table(report.rows(ROWS)).splitlines()
    assert lines[0].split() == ["name", "value", "unit", "reference", "ratio", "goal", "met"]
    assert lines[1].split() == ["a.first", "1.235", "s", "-", "-", "2", "yes"]
    assert lines[2].split() == ["a.second", "3", "s", "1.5", "2", "-", "NO"]
    assert (
        len({line.index(last) for line, last in zip(lines[1:], ("yes", " NO"), strict=True)}) == 1
    )


def test_figures_of_other_benchmarks_stay_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.json"
    report.write(report.rows(ROWS), file)
    report.write(report.rows([{"name": "a.first", "value": 9.0, "unit": "s"}]), file)
    values = {row["name"]: row["value"] for row in json.loads(file.read_text())}
    assert values == {"a.first": 9.0, "a.second": 3.0}


def test_a_row_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="speed"):
        report.rows([{"name": "a", "value": 1.0, "unit": "s", "speed": 3}])
