"""Files whose pages stay in memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import needs
from thinfs.roots.held import HeldFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB = 1 << 10


@pytest.fixture
def held() -> Iterator[HeldFiles]:
    needs.root()  # others may lock some pages only
    files = HeldFiles(max_bytes=100 * KIB)
    yield files
    for name in ("a", "b"):
        files.let_go(name)


def make(folder: Path, name: str, size: int) -> Path:
    (folder / name).write_bytes(b"x" * size)
    return folder / name


def locked_kib(path: Path) -> int:
    """How much of a file this process has locked."""
    parts = re.split(r"(?m)^[0-9a-f]+-[0-9a-f]+ ", Path("/proc/self/smaps").read_text())
    ours = [part for part in parts if str(path) in part.partition("\n")[0]]
    return sum(int(found) for part in ours for found in re.findall(r"Locked:\s+(\d+) kB", part))


def test_a_held_file_is_in_memory_until_it_is_let_go(held: HeldFiles, tmp_path: Path) -> None:
    path = make(tmp_path, "image", 60 * KIB)
    assert held.hold("a", path)
    assert (held.bytes, locked_kib(path)) == (60 * KIB, 60)
    held.let_go("a")
    held.let_go("a")
    assert (held.bytes, locked_kib(path)) == (0, 0)


def test_another_file_takes_the_place_of_the_former(held: HeldFiles, tmp_path: Path) -> None:
    first, second = (make(tmp_path, name, 60 * KIB) for name in ("first", "second"))
    assert held.hold("a", first)
    assert held.hold("a", second)
    assert (locked_kib(first), locked_kib(second)) == (0, 60)


def test_what_does_not_fit_is_not_held(held: HeldFiles, tmp_path: Path) -> None:
    assert held.hold("a", make(tmp_path, "one", 60 * KIB))
    assert not held.hold("b", make(tmp_path, "other", 60 * KIB))
    assert not held.hold("b", make(tmp_path, "empty", 0))
    assert not held.hold("b", tmp_path / "missing")
    assert held.bytes == 60 * KIB
