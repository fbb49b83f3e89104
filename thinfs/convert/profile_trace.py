"""From what happened at one start of a container to a boot profile. Pure."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, Final

from thinfs.convert.runs import Run, joined
from thinfs.store.layout import SMALL_CONTENT_BYTES
from thinfs.store.profiles import PROFILE_VERSION, Profile, Touched, path_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from catalog.reader import CatalogReader
    from thinfs.control.values import Trace, TraceEvent

METADATA: Final = "metadata"
"""Name of reads of the metadata image in a trace."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def profile_from_trace(
    trace: Trace,
    root: CatalogReader,
    *,
    chain_id: str,
    ready_s: float,
    started_s: float = 0.0,
    metadata: str = "",
) -> Profile:
    """What one start has read until it was ready, in the order of first touch.

    The trace must hold all reads of the container: it is to be taken of a root that serves
    every content itself, with nothing of it in the node's cache.

    Args:
        trace: of the root.
        root: its catalog; contents that are not in it are left out.
        chain_id: of the image's layers.
        ready_s: when the container was ready, on the trace's own clock.
        started_s: when it was started, on the same clock; what was read before counts as
            touched at once.
        metadata: digest of the metadata image that the root was mounted with, ``sha256:`` and
            hex; empty when it was another one or none.
    """
    reads = sorted(
        (each for each in trace.events if each.what == "read" and each.at_s <= ready_s),
        key=lambda each: each.at_s,
    )
    return Profile(
        version=PROFILE_VERSION,
        chain_id=chain_id,
        origin=trace.origin,
        runs=1,
        ready_ms=_since(started_s, ready_s),
        touched=tuple(_touched(_by_content(reads), root, started_s)),
        metadata=metadata,
        metadata_ranges=_ranges(
            (each for each in reads if metadata and each.name == METADATA), size=None
        ),
    )


def _by_content(reads: Iterable[TraceEvent]) -> dict[str, list[TraceEvent]]:
    found: dict[str, list[TraceEvent]] = {}
    for each in reads:
        if _DIGEST.fullmatch(each.name):
            found.setdefault(each.name, []).append(each)
    return found


def _touched(
    by_content: dict[str, list[TraceEvent]], root: CatalogReader, started_s: float
) -> Iterable[Touched]:
    numbers = {name: root.content_id(bytes.fromhex(name)) for name in by_content}
    paths = _paths({number for number in numbers.values() if number}, root)
    for name, reads in by_content.items():
        number = numbers[name]
        if not number:
            continue
        size = root.content(number).size
        ranges = () if size < SMALL_CONTENT_BYTES else _ranges(reads, size)
        yield Touched(
            content=name,
            path=path_text(paths.get(number, b"")),
            at_ms=_since(started_s, reads[0].at_s),
            ranges=() if ranges == ((0, size),) else ranges,
        )


def _paths(numbers: set[int], root: CatalogReader) -> dict[int, bytes]:
    """One path of each content, by its number in the catalog: the first in walking order."""
    found: dict[int, bytes] = {}
    for path, node in root.walk():
        if stat.S_ISREG(node.mode) and node.content_id in numbers:
            found.setdefault(node.content_id, path)
            if len(found) == len(numbers):
                break
    return found


def _ranges(reads: Iterable[TraceEvent], size: int | None) -> tuple[tuple[int, int], ...]:
    runs = [Run(each.offset, each.length) for each in reads if each.length > 0]
    end = max((run.end for run in runs), default=0)
    return tuple((run.offset, run.length) for run in joined(runs, end if size is None else size))


def _since(start_s: float, at_s: float) -> int:
    return max(0, round((at_s - start_s) * 1000))
