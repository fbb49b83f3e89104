"""Which bytes of which objects a read needs, what to keep in memory, what to evict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from catalog.model import Content, Extent
from thinfs.cache.memory import MemoryObjects
from thinfs.cache.places import Kind, Places, counted, to_free
from thinfs.cache.plan import MAX_AHEAD_OBJECTS, SLACK_BYTES, ReadAhead, layout_digest, pieces

MIB = 1 << 20
A, B = b"a" * 32, b"b" * 32
EXTENTS = (Extent(10, 20, A, 5), Extent(30, 10, B, 0), Extent(100, 50, A, 0))


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 10, []),
        (0, 11, [(0, 0, 1, 10)]),
        (15, 5, [(0, 5, 5, 0)]),
        (29, 2, [(0, 19, 1, 0), (1, 0, 1, 1)]),
        (40, 60, []),
        (0, 1000, [(0, 0, 20, 10), (1, 0, 10, 30), (2, 0, 50, 100)]),
        (149, 10, [(2, 49, 1, 0)]),
        (150, 10, []),
    ],
)
def test_a_read_is_cut_into_parts_of_extents(
    offset: int, length: int, expected: list[tuple[int, int, int, int]]
) -> None:
    parts = list(pieces(EXTENTS, offset, length))
    assert [(p.index, p.start, p.length, p.target) for p in parts] == expected
    assert all(part.extent is EXTENTS[part.index] for part in parts)


def test_a_layout_is_named_by_all_that_says_where_bytes_are() -> None:
    content = Content(b"c" * 32, 200, EXTENTS)
    others = [
        replace(content, digest=b"d" * 32),
        replace(content, extents=EXTENTS[:2]),
        replace(content, extents=(replace(EXTENTS[0], object=B), *EXTENTS[1:])),
        replace(content, extents=(replace(EXTENTS[0], object_offset=6), *EXTENTS[1:])),
        replace(content, extents=(replace(EXTENTS[0], offset=9), *EXTENTS[1:])),
        replace(content, extents=(replace(EXTENTS[0], length=19), *EXTENTS[1:])),
    ]
    assert len({layout_digest(one) for one in [content, *others]}) == 1 + len(others)
    assert layout_digest(content) == layout_digest(replace(content))


def test_read_ahead_grows_with_a_sequence_and_ends_with_it() -> None:
    ahead = ReadAhead()
    windows = [ahead.advance(n * MIB, MIB) for n in range(6)]
    assert windows == [0, 1, 2, 4, MAX_AHEAD_OBJECTS, MAX_AHEAD_OBJECTS]
    assert ahead.advance(500 * MIB, MIB) == 0
    assert ahead.advance(501 * MIB, MIB) == 1


def test_parallel_reads_of_one_sequence_in_any_order_are_recognised() -> None:
    ahead = ReadAhead()
    assert [ahead.advance(n * MIB, MIB) for n in (0, 2, 1, 3, 5, 4)][1:] == [1, 2, 4, 4, 4]
    assert ahead.expected == 6 * MIB


def test_a_random_reader_is_not_read_ahead_for() -> None:
    ahead = ReadAhead()
    places = [0, 900, 100, 700, 300]
    assert [ahead.advance(place * SLACK_BYTES, 4096) for place in places] == [0] * 5


@pytest.mark.parametrize(
    ("used", "needed", "free"),
    [(0, 100, 0), (99, 1, 0), (100, 1, 11), (100, 50, 60), (100, 95, 100), (0, 200, 100)],
)
def test_eviction_begins_at_the_quota_and_ends_at_low_water(
    used: int, needed: int, free: int
) -> None:
    assert to_free(used, needed, max_bytes=100, low_water=0.9) == free


def test_files_count_in_whole_blocks() -> None:
    assert [counted(size) for size in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]


def test_contents_are_fanned_out_and_other_kinds_are_not() -> None:
    places = Places(Path("/c"))
    digest = bytes(range(32))
    assert str(places.file(Kind.CONTENT, digest)) == f"/c/contents/00/{digest.hex()}"
    assert str(places.file(Kind.PARTIAL, digest)) == f"/c/partial/{digest.hex()}"
    assert str(places.file(Kind.CATALOG, digest)) == f"/c/catalogs/{digest.hex()}"


def test_memory_keeps_the_most_recently_used_objects_within_its_bytes() -> None:
    memory = MemoryObjects(100)
    assert memory.put(b"1", bytes(40))
    assert memory.put(b"2", bytes(40))
    assert not memory.put(b"1", bytes(40))  # known: now used more recently than 2
    assert memory.put(b"3", bytes(40))
    assert (memory.get(b"1"), memory.get(b"2")) == (bytes(40), None)
    assert memory.used_bytes == 80
    assert memory.put(b"4", bytes(60))
    assert b"1" in memory
    assert b"3" not in memory
    assert memory.put(b"huge", bytes(101))
    assert b"huge" not in memory
    assert memory.used_bytes == 100
