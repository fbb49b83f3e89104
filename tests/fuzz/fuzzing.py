"""Mutated inputs of the corpus through the doors of the corpus: refused or read, nothing else."""

from __future__ import annotations

import random
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fuzz.mutations import MAX_INPUT_BYTES, mutated
from tests.refused.corpus import Case, cases
from tests.refused.doors import DOORS, REFUSALS, listing

if TYPE_CHECKING:
    from collections.abc import Callable

FAMILIES: Final = sorted(DOORS.keys() - {"catalog"})
"""Catalogs have their own way: tests/property/catalog/test_hostile_catalogs.py."""


@dataclass(frozen=True, slots=True)
class Find:
    """An input that was neither read nor refused.

    Attributes:
        family: through which door it went.
        data: the input.
        options: with what.
        what: the exception with its traceback, or what it left behind.
    """

    family: str
    data: bytes
    options: dict[str, object]
    what: str


def fuzz(family: str, seed: int, go_on: Callable[[int], bool]) -> tuple[int, Find | None]:
    """Try inputs of one family until something is found, or ``go_on`` of their number ends it.

    Returns:
        How many were tried, and the first find.
    """
    rng = random.Random(f"{family} {seed}")
    seeds = [(case, data) for case in cases(family) if (data := _small(case)) is not None]
    door, tried = DOORS[family], 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        door.prepare(place)
        before = listing(place, door.may_keep)
        while go_on(tried):
            (case, data), (_, other) = rng.choice(seeds), rng.choice(seeds)
            data = mutated(rng, data, other)
            tried += 1
            what = _tried(family, data, case.options, place)
            if not what and listing(place, door.may_keep) - before:
                what = f"left behind: {sorted(listing(place, door.may_keep) - before)}"
            if what:
                return tried, Find(family, data, case.options, what)
    return tried, None


def _small(case: Case) -> bytes | None:
    """A case's input, without those whose size is the point."""
    if "pack" in case.options:
        return None
    data = case.data()
    return data if len(data) <= MAX_INPUT_BYTES else None


def _tried(family: str, data: bytes, options: dict[str, object], place: Path) -> str:
    try:
        DOORS[family].enter(data, options, place)
    except REFUSALS:
        return ""
    except UnicodeDecodeError:
        # A name on a command line is text before anybody here sees it.
        return "" if family in {"address", "filter", "proxies", "reference"} else _trace()
    except Exception:  # whatever comes is what is looked for
        return _trace()
    return ""


def _trace() -> str:
    return traceback.format_exc()
