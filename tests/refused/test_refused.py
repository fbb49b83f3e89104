"""Every input of the corpus is refused, with the words its user sees, and leaves nothing behind."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Final

import pytest

from tests.refused.corpus import FOLDER, Case, cases, families
from tests.refused.doors import DOORS, REFUSALS, listing, plain

if TYPE_CHECKING:
    from pathlib import Path

CASES: Final = [case for family in families() for case in cases(family)]
MIN_CASES: Final = 150
MAX_PEAK_BYTES: Final = 64 << 20
"""Python memory that an input may cost: the largest queue between threads is 16 MiB."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}/{case.name}")
def test_it_is_refused_and_nothing_stays(case: Case, tmp_path: Path) -> None:
    door, data = DOORS[case.family], case.data()
    door.prepare(tmp_path)
    before = listing(tmp_path, door.may_keep)
    tracemalloc.start()
    try:
        with pytest.raises(REFUSALS) as caught:
            door.enter(data, case.options, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    said = type(caught.value).__name__, plain(caught.value, tmp_path)
    assert said == (case.error, case.message)
    assert listing(tmp_path, door.may_keep) == before
    assert peak < MAX_PEAK_BYTES


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}/{case.name}")
def test_what_the_user_sees_is_one_line(case: Case) -> None:
    assert case.message.isprintable()
    assert 0 < len(case.message) <= 1000


@pytest.mark.parametrize("family", sorted(DOORS))
def test_every_file_of_a_family_is_in_its_table(family: str) -> None:
    folder = FOLDER / family
    files = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    named = {case.name for case in cases(family) if "parts" not in case.options}
    assert files == named


def test_the_corpus_only_grows() -> None:
    assert set(families()) == set(DOORS)
    assert len(CASES) >= MIN_CASES
