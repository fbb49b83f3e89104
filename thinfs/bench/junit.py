"""Results as JUnit XML: what continuous integration shows beside tests."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from thinfs.bench.statistics import MEASURES, READY, of_starts, starts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.bench.baseline import Change
    from thinfs.bench.values import Report, Series, Start

_ILLEGAL = "".join(chr(code) for code in range(32) if chr(code) not in "\t\n\r")


def render(report: Report, changes: Sequence[Change] = ()) -> str:
    """One test case for each contestant's cold, and warm, starts.

    Args:
        report: the results.
        changes: against a baseline; a case with a regression has failed.
    """
    suite = ET.Element("testsuite", name="thinfs bench", hostname=_clean(report.machine))
    stamp = dt.datetime.fromtimestamp(report.made_unix_s, tz=dt.UTC).replace(tzinfo=None)
    suite.set("timestamp", stamp.isoformat(timespec="seconds"))
    failures, seconds = 0, 0.0
    for series in report.series:
        for temperature in ("cold", "warm"):
            starts = starts_of(series, temperature)
            if starts:
                worse = [each for each in changes if _about(each, series, temperature)]
                suite.append(_case(series, temperature, starts, worse))
                failures += bool(worse)
                seconds += _ready(starts)
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("errors", "0")
    suite.set("skipped", "0")
    suite.set("time", f"{seconds:.3f}")
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _about(change: Change, series: Series, temperature: str) -> bool:
    return (
        change.regressed and change.contestant == series.name and change.temperature == temperature
    )


def _case(
    series: Series, temperature: str, starts: Sequence[Start], worse: Sequence[Change]
) -> ET.Element:
    case = ET.Element(
        "testcase",
        classname=_clean(f"thinfs.bench.{series.name}"),
        name=_clean(f"{series.image} {temperature} start"),
        time=f"{_ready(starts):.3f}",
    )
    properties = ET.SubElement(case, "properties")
    for measure in MEASURES:
        figure = of_starts(measure, starts)
        if figure is not None:
            ET.SubElement(properties, "property", name=measure.key, value=_number(figure.median))
    if worse:
        text = "; ".join(each.text for each in worse)
        ET.SubElement(case, "failure", message=_clean(text), type="regression")
    return case


def _ready(starts: Sequence[Start]) -> float:
    figure = of_starts(READY, starts)
    return figure.median if figure else 0.0


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _clean(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return text.translate({ord(char): None for char in _ILLEGAL})
