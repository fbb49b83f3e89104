"""Whether a measurement is worse than an earlier one. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thinfs.bench.statistics import MEASURES, of_starts, starts_of
from thinfs.bench.text import amount
from thinfs.errors import UsageError

if TYPE_CHECKING:
    from thinfs.bench.statistics import Measure
    from thinfs.bench.values import Report

WATCHED: Final = ("ready", "bytes")
"""Measures that fail a build; the others explain them."""

NOISE: Final = {"s": 0.020, "B": 16_384.0}
"""What is less than this, in the measure's unit, is never a regression."""

_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)%\Z")


@dataclass(frozen=True, slots=True)
class Change:
    """One measure of one contestant, then and now.

    Attributes:
        contestant: whose.
        temperature: ``cold`` or ``warm``.
        measure: its key.
        unit: of both figures.
        before: median of the baseline.
        now: median of this measurement.
        regressed: whether it is worse by more than is allowed.
    """

    contestant: str
    temperature: str
    measure: str
    unit: str
    before: float
    now: float
    regressed: bool

    @property
    def text(self) -> str:
        """For people: ``thin cold ready: 1.31 s, was 0.90 s (+46 %)``."""
        now, before = amount(self.now, self.unit), amount(self.before, self.unit)
        part = f" ({(self.now / self.before - 1) * 100:+.0f} %)" if self.before else ""
        return f"{self.contestant} {self.temperature} {self.measure}: {now}, was {before}{part}"


def parse_percent(text: str) -> float:
    """Read ``10%`` as 0.1.

    Raises:
        UsageError: it is something else.
    """
    match = _PERCENT.match(text.replace(" ", ""))
    if match is None:
        raise UsageError(f"--max-regress {text}: give a percentage, such as 10%")
    return float(match[1]) / 100


def changes(report: Report, baseline: Report, max_regress: float) -> list[Change]:
    """What the measured contestant's watched measures were, and are.

    Contestants beside it are references on the same machine: their changes are the machine's.

    Args:
        report: now.
        baseline: then.
        max_regress: 0.1 allows a tenth more.

    Raises:
        UsageError: the two are not of the same thing, or share no contestant.
    """
    _check_same(report, baseline)
    series = report.series[0]
    old = next((each for each in baseline.series if each.name == series.name), None)
    if old is None:
        raise UsageError(f"the baseline did not measure {series.name}")
    found = []
    for temperature in ("cold", "warm"):
        for measure in MEASURES:
            before = of_starts(measure, starts_of(old, temperature))
            now = of_starts(measure, starts_of(series, temperature))
            if before is not None and now is not None and measure.key in WATCHED:
                change = _change(measure, before.median, now.median, max_regress)
                found.append(Change(series.name, temperature, *change))
    return found


def _change(
    measure: Measure, before: float, now: float, max_regress: float
) -> tuple[str, str, float, float, bool]:
    worse = now > before * (1 + max_regress) and now - before > NOISE[measure.unit]
    return measure.key, measure.unit, before, now, worse


def _check_same(report: Report, baseline: Report) -> None:
    for name, now, then in (
        ("link", report.link, baseline.link),
        ("ready", report.ready, baseline.ready),
        ("command", report.command, baseline.command),
    ):
        if now != then:
            raise UsageError(f"the baseline was measured with another {name}: {then} and not {now}")
