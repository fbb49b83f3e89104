from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from thinfs.convert.gather import Gathering

NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)
PATHS = st.lists(NAMES.map("/".join), max_size=30)


def gathered(paths: list[str], most: int = 1 << 20, size: int = 10) -> list[str]:
    """The order in which files go on whose paths come in an archive's order."""
    gathering = Gathering(most)
    found: list[str] = []
    for path in paths:
        directory = path.rpartition("/")[0].encode()
        found += [each.decode() for each, _ in gathering.add(directory, path.encode(), bytes(size))]
    return found + [each.decode() for each, _ in gathering.finish()]


def test_files_of_a_directory_stay_together_though_others_come_in_between() -> None:
    assert gathered(["a.py", "b/x.py", "b/y.py", "c.py", "d/z.py", "e.py"]) == [
        "b/x.py",
        "b/y.py",
        "d/z.py",
        "a.py",
        "c.py",
        "e.py",
    ]


def test_names_that_begin_alike_are_different_directories() -> None:
    assert gathered(["a/b/1", "a/bc/1", "a/b-/1"]) == ["a/b/1", "a/bc/1", "a/b-/1"]


@given(PATHS)
def test_everything_goes_on_once(paths: list[str]) -> None:
    numbered = [f"{path}/{number}" for number, path in enumerate(paths)]
    assert sorted(gathered(numbered)) == sorted(numbered)
    assert sorted(gathered(numbered, most=25)) == sorted(numbered)


@given(PATHS)
def test_in_a_sorted_archive_every_directory_is_one_run(paths: list[str]) -> None:
    numbered = sorted({f"{path}/{number}" for number, path in enumerate(paths)}, key=_walk_order)
    directories = [path.rpartition("/")[0] for path in gathered(numbered)]
    runs = [key for key, _ in itertools.groupby(directories)]
    assert len(runs) == len(set(runs))


def _walk_order(path: str) -> list[str]:
    return path.split("/")


def test_what_is_held_is_bounded_and_the_largest_directory_goes_first() -> None:
    gathering = Gathering(100)
    sent = [each for n in range(9) for each, _ in gathering.add(b"big", b"%d" % n, bytes(10))]
    assert sent == []
    sent = [each for each, _ in gathering.add(b"big/inner", b"inner", bytes(20))]
    assert sent == [b"%d" % n for n in range(9)]
    assert [each for each, _ in gathering.finish()] == [b"inner"]
