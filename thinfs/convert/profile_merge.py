"""One boot profile of several. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thinfs.convert.runs import Run, joined
from thinfs.errors import UsageError
from thinfs.store.profiles import Profile, Touched

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST: Final = 0.5
"""Share of runs that must have touched a content for it to be kept: what one start in three reads
costs two starts in three more than it saves the third."""

_NO_END: Final = 1 << 62


def merge_profiles(profiles: Sequence[Profile], share: float = MOST) -> Profile:
    """What starts of one image have in common, in the order of the median time of first touch.

    A profile that was made of several runs counts as often; what is in it counts for all of
    them. Of large contents all parts are kept that any of the runs has touched.

    Args:
        profiles: at least one, all of one chain of layers.
        share: of the runs that must have touched a content, 0 to 1; 0 keeps everything.

    Raises:
        UsageError: there is none, or they are of different images.
    """
    if not profiles:
        raise UsageError("there is no profile to merge")
    if len({each.chain_id for each in profiles}) > 1:
        origins = ", ".join(dict.fromkeys(each.origin for each in profiles))
        raise UsageError(f"profiles of different images cannot be merged: {origins}")
    runs = sum(each.runs for each in profiles)
    metadata = next((each.metadata for each in profiles if each.metadata), "")
    return Profile(
        version=profiles[0].version,
        chain_id=profiles[0].chain_id,
        origin=profiles[-1].origin,
        runs=runs,
        ready_ms=_median((each.ready_ms, each.runs) for each in profiles),
        touched=_touched(profiles, share * runs),
        metadata=metadata,
        metadata_ranges=_union(
            each.metadata_ranges for each in profiles if metadata and each.metadata == metadata
        ),
    )


def _touched(profiles: Sequence[Profile], least_runs: float) -> tuple[Touched, ...]:
    found: dict[str, list[tuple[Touched, int]]] = {}
    for profile in profiles:
        for each in profile.touched:
            found.setdefault(each.content, []).append((each, profile.runs))
    kept = [
        _one([each for each, _ in seen], _median((each.at_ms, runs) for each, runs in seen))
        for seen in found.values()
        if sum(runs for _, runs in seen) >= least_runs
    ]
    return tuple(sorted(kept, key=lambda each: each.at_ms))  # stable: ties as they were met


def _one(seen: Sequence[Touched], at_ms: int) -> Touched:
    whole = any(not each.ranges for each in seen)
    return Touched(
        content=seen[0].content,
        path=next((each.path for each in seen if each.path), ""),
        at_ms=at_ms,
        ranges=() if whole else _union(each.ranges for each in seen),
    )


def _union(ranges: Iterable[tuple[tuple[int, int], ...]]) -> tuple[tuple[int, int], ...]:
    runs = [Run(*each) for some in ranges for each in some]
    return tuple((run.offset, run.length) for run in joined(runs, _NO_END))


def _median(values: Iterable[tuple[int, int]]) -> int:
    """The median of values that each count several times: (value, times)."""
    ordered = sorted(values)
    half = sum(times for _, times in ordered) / 2
    counted = 0
    for (value, times), (following, _) in zip(ordered, [*ordered[1:], ordered[-1]], strict=True):
        counted += times
        if counted > half:
            return value
        if counted == half:
            return round((value + following) / 2)
    return ordered[-1][0]
