"""Figures of cold starts from what was measured. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from tests.bench import report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thinfs.bench.values import Link, Report, Series

ROUND_TRIPS: Final = 3
LAZY_GOAL: Final = 1.0
PROFILE_GOAL: Final = 0.9
IDEAL_GOAL: Final = 1.25
BYTES_GOAL: Final = 1.15
MB: Final = 1e6


def rows(
    name: str, measured: Report, link: Link, *, pull_s: float, touched: int, peer: float
) -> Iterator[report.Values]:
    """All figures of one workload on one link.

    Args:
        name: ``cold.<workload>.<link>``.
        measured: with the contestants ``lazy``, ``profile``, ``overlayfs`` and, where they can be
            had, ``estargz`` and ``optimised``; also warm.
        link: they were measured on.
        pull_s: of the smallest image there is.
        touched: bytes that the workload touches, compressed.
        peer: seconds of optimised eStargz to those of overlayfs, where there is no eStargz.
    """
    series = {each.name: each for each in measured.series}
    references = _references(series, peer)
    goals = {"lazy": LAZY_GOAL, "profile": PROFILE_GOAL}
    for label, each in series.items():
        reference = references.get(label)
        yield report.figure(f"{name}.{label}", seconds(each), "s", reference, goals.get(label))
        yield report.figure(f"{name}.{label}.mb", received(each) / MB, "MB")
    ours = series["profile"]
    least = _least_s(series["overlayfs"], received(ours), link)
    ready_s = seconds(ours)
    yield report.figure(f"{name}.profile.ideal", ready_s, "s", least, IDEAL_GOAL)
    yield report.figure(f"{name}.profile.pulled", ready_s, "s", least + pull_s, IDEAL_GOAL)
    arrived, needed = received(ours) / MB, touched / MB
    yield report.figure(f"{name}.profile.bytes", arrived, "MB", needed, BYTES_GOAL)


def seconds(series: Series) -> float:
    """Median time until ready of cold starts."""
    return statistics.median(start.ready_s for start in series.cold)


def received(series: Series) -> float:
    """Median of the bytes that had reached the node by then."""
    return statistics.median(start.traffic.bytes for start in series.cold)


def _references(series: Mapping[str, Series], peer: float) -> dict[str, float]:
    """What each of ours has to be measured by, in seconds."""
    if "optimised" in series:
        return {"lazy": seconds(series["estargz"]), "profile": seconds(series["optimised"])}
    return {"profile": seconds(series["overlayfs"]) * peer}


def _least_s(full: Series, arrived: float, link: Link) -> float:
    """A start that waits for nothing but its bytes."""
    warm_s = statistics.median(start.ready_s for start in full.warm)
    return warm_s + arrived * 8 / link.bits_per_s + ROUND_TRIPS * link.round_trip_s
