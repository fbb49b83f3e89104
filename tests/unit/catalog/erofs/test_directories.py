"""Blocks of directories."""

from __future__ import annotations

import itertools

import pytest

from catalog.erofs import disk
from catalog.erofs.directories import Filling, pack, unpack, with_dots
from catalog.erofs.errors import DamagedImage


def entries(*names: bytes) -> list[tuple[bytes, int, int]]:
    return [(name, 100 + index, 1) for index, name in enumerate(names)]


def test_dots_stand_where_their_names_sort() -> None:
    found = with_dots(entries(b"!", b"-", b"...", b"a"), 7, 3)
    assert list(found) == [
        (b"!", 100, 1),
        (b"-", 101, 1),
        (b".", 7, 2),
        (b"..", 3, 2),
        (b"...", 102, 1),
        (b"a", 103, 1),
    ]
    assert [name for name, _, _ in with_dots([], 7, 3)] == [b".", b".."]


@pytest.mark.parametrize("length", [1, 8, 116, 117, 244, 255])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 31, 32, 33, 204, 205, 500])
def test_names_fill_blocks_as_counted_before(count: int, length: int) -> None:
    names = [b"%0*d" % (length, number) for number in range(count)] if length > 3 else []
    wanted = entries(*names, b"~")
    filling = Filling()
    for name, _, _ in wanted:
        filling.add(name)
    pieces = list(pack(wanted))
    assert [len(piece) for piece in pieces] == [disk.BLOCK] * filling.full + [filling.used]
    assert list(itertools.chain.from_iterable(map(unpack, pieces))) == wanted


def test_a_last_block_may_be_exactly_full() -> None:
    wanted = entries(*(b"%0116d" % number for number in range(32)))
    assert [len(piece) for piece in pack(wanted)] == [disk.BLOCK]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\0" * 11,
        disk.DIRENT.pack(1, 0, 1, 0) + b"a",
        disk.DIRENT.pack(1, 13, 1, 0) + b"a",
        disk.DIRENT.pack(1, 4092, 1, 0) + b"a",
        disk.DIRENT.pack(1, 12, 1, 1) + b"a",
        disk.DIRENT.pack(1, 12, 1, 0) + b"a/b",
        disk.DIRENT.pack(1, 12, 1, 0) + b"\0\0",
        disk.DIRENT.pack(1, 12, 1, 0) + b"n" * 256,
        disk.DIRENT.pack(1, 24, 1, 0) + disk.DIRENT.pack(1, 60000, 1, 0) + b"ab",
        disk.DIRENT.pack(1, 24, 1, 0) + disk.DIRENT.pack(1, 20, 1, 0) + b"ab",
    ],
)
def test_blocks_that_nobody_wrote_are_refused(block: bytes) -> None:
    with pytest.raises(DamagedImage):
        unpack(block)
