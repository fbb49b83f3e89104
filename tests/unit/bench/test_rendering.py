"""What is written for people and machines: parsed again, as they would."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.support.bench_results import PATHS, made_report
from thinfs.bench import junit, markdown, page, results
from thinfs.bench.baseline import changes
from thinfs.bench.text import duration, size
from thinfs.errors import FormatError, MissingError

if TYPE_CHECKING:
    from pathlib import Path

    from thinfs.bench.values import Report

VOID = {"meta", "link", "br", "img"}


class Page(html.parser.HTMLParser):
    """Checks that elements are closed in order, and collects them with their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of_class(self, name: str) -> int:
        return sum(name in (attrs.get("class") or "").split() for _, attrs in self.elements)


@pytest.fixture(scope="module")
def report() -> Report:
    return made_report()


def test_the_page_is_well_formed_and_asks_for_nothing(report: Report) -> None:
    text = page.render(report)
    found = Page(text)
    assert not re.search(r"(?:src|href)=\"(?!data:,\")|@import|url\(", text)
    assert "script" not in {tag for tag, _ in found.elements}


def test_the_page_shows_what_the_report_says(report: Report) -> None:
    words = " ".join(Page(page.render(report)).text)
    for expected in (report.image, "1gbit,1ms", "1.00 s", "10.0 MB", "overlayfs", *report.notes):
        assert expected in words


def test_text_of_images_stays_text(report: Report) -> None:
    found = Page(page.render(report))
    assert any(PATHS[-1] in words for words in found.text)
    assert "b" in {tag for tag, _ in found.elements}  # the cards' figures, and no path
    assert sum(tag == "b" for tag, _ in found.elements) == found.of_class("card")


def test_every_wait_of_the_trace_has_a_bar(report: Report) -> None:
    details = report.series[0].cold[1].details
    assert details is not None
    waits = sum(bar.lane == "wait" for bar in details.bars)
    legend = 1
    assert Page(page.render(report)).of_class("wait") == waits + legend


def test_a_report_without_details_or_company_renders(report: Report) -> None:
    starts = tuple(replace(each, details=None) for each in report.series[0].cold)
    alone = replace(
        report, link=None, series=(replace(report.series[0], cold=starts, warm=()),), notes=()
    )
    Page(page.render(alone))
    assert "ratio" in markdown.render(alone)
    ET.fromstring(junit.render(alone))


def test_regressions_are_marked_everywhere(report: Report) -> None:
    slower = made_report(1.5)
    found = changes(slower, report, 0.1)
    assert "worse" in page.render(slower, found).split("</style>")[1]
    assert "**worse**: thin cold ready: 1.50 s, was 1.00 s (+50 %)" in markdown.render(
        slower, found
    )
    failures = ET.fromstring(junit.render(slower, found)).findall(".//failure")
    assert [each.get("message") for each in failures] == [
        "thin cold ready: 1.50 s, was 1.00 s (+50 %)",
        "thin warm ready: 0.19 s, was 0.12 s (+50 %)",
    ]


def test_junit_is_as_its_readers_expect(report: Report) -> None:
    suites = ET.fromstring(junit.render(report))
    suite = suites[0]
    cases = suite.findall("testcase")
    assert (suites.tag, suite.tag) == ("testsuites", "testsuite")
    assert {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"} <= set(
        suite.keys()
    )
    assert int(suite.get("tests", "")) == len(cases) == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp", ""))
    for case in cases:
        assert {"classname", "name", "time"} == set(case.keys())
        assert float(case.get("time", "")) > 0
        assert [child.tag for child in case] == ["properties"]
    assert len({case.get("name", "") + case.get("classname", "") for case in cases}) == 4


def test_control_characters_do_not_break_junit(report: Report) -> None:
    ET.fromstring(junit.render(replace(report, machine="a\x00\x1b[31m<b>")))


def test_markdown_tables_have_as_many_cells_in_each_row(report: Report) -> None:
    lines = [line for line in markdown.render(report).splitlines() if line.startswith("|")]
    tables: list[list[int]] = []
    for line in lines:
        cells = len(re.findall(r"(?<!\\)\|", line))
        if not tables or tables[-1][0] != cells:
            tables.append([cells])
        tables[-1].append(cells)
    assert all(len(set(table)) == 1 for table in tables)
    assert r"Ready to &lt;accept> \| connections" in markdown.render(report)


def test_json_is_read_again_as_the_same_report(tmp_path: Path, report: Report) -> None:
    results.write(report, tmp_path / "r.json")
    assert results.read(tmp_path / "r.json") == report
    medians = json.loads((tmp_path / "r.json").read_text())["medians"]
    assert medians["thin"]["cold"]["ready"] == 1.0
    assert "stalled" not in medians["overlayfs"]["cold"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', "\xff"])
def test_other_files_are_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(FormatError, match="no result of thinfs bench"):
        results.read(tmp_path / "r.json")


def test_results_of_another_format_are_refused(tmp_path: Path, report: Report) -> None:
    results.write(replace(report, format=99), tmp_path / "r.json")
    with pytest.raises(FormatError, match="format 99"):
        results.read(tmp_path / "r.json")


def test_missing_results_are_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        results.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, "0.0 ms"), (0.0041, "4.1 ms"), (0.0996, "0.10 s"), (2.5, "2.50 s"), (120.4, "120 s")],
)
def test_durations_have_a_unit_that_suits_them(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (999_600, "1.0 MB"),
        (2_340_000_000, "2.34 GB"),
    ],
)
def test_sizes_have_a_unit_that_suits_them(count: int, expected: str) -> None:
    assert size(count) == expected
