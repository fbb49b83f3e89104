"""What the node cache keeps on disk, what it counts, what goes."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from catalog.model import Content, Extent
from tests.support.reading import flipped, patterned, sha256
from thinfs.cache.catalogs import keep_catalog, kept_catalog, release_catalog
from thinfs.cache.directory import NodeCache
from thinfs.cache.partial import PartialFile
from thinfs.cache.places import Kind
from thinfs.cache.plan import layout_digest
from thinfs.errors import IntegrityError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIB = 1 << 10


class Clock:
    """Wall clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., NodeCache]]:
    caches: list[NodeCache] = []

    def make(max_bytes: int = 1 << 30, low_water: float = 0.9) -> NodeCache:
        cache = NodeCache(
            tmp_path / "cache", max_bytes=max_bytes, low_water=low_water, now_ns=clock
        )
        cache.open()
        caches.append(cache)
        return cache

    yield make
    for cache in caches:
        cache.close()


def body(n: int, size: int = 10 * KIB) -> bytes:
    return patterned(size, n)


def add(cache: NodeCache, *bodies: bytes) -> int:
    return cache.add_contents({sha256(one): one for one in bodies})


def holds(cache: NodeCache, data: bytes) -> bool:
    handle = cache.open_content(sha256(data), len(data))
    if handle is None:
        return False
    with os.fdopen(handle, "rb") as file:
        assert file.read() == data
    return True


def abandon(cache: NodeCache) -> None:
    """Do what the kernel does for a process that is killed."""
    cache.state.close()
    os.close(cache._owner_lock)
    cache._state = None


def rows(cache: NodeCache) -> int:
    with cache.state.transaction() as db:
        found = db.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()
        pending = db.execute("SELECT coalesce(sum(bytes), 0) FROM pending").fetchone()
    return int(found[0] + pending[0])


def test_contents_are_kept_whole_read_only_and_in_two_hex_folders(
    opened: Callable[..., NodeCache],
) -> None:
    cache = opened()
    assert add(cache, body(1), body(2)) == 20 * KIB
    assert add(cache, body(1)) == 0
    assert holds(cache, body(1))
    assert holds(cache, body(2))
    path = cache.places.contents / sha256(body(1)).hex()[:2] / sha256(body(1)).hex()
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert cache.usage() == (2 * 12 * KIB, 2)
    assert rows(cache) == cache.usage()[0]
    assert list(cache.places.temporary.glob("*/*")) == []


def test_the_least_recently_used_go_first_down_to_low_water(
    opened: Callable[..., NodeCache], clock: Clock
) -> None:
    cache = opened(max_bytes=120 * KIB, low_water=0.5)
    for n in range(10):
        clock.now += 1
        add(cache, body(n))
    assert cache.usage() == (120 * KIB, 10)
    clock.now += 1
    cache.notes.used(Kind.CONTENT, sha256(body(0)))
    cache.flush(cache.notes.take())
    add(cache, body(10))
    assert [holds(cache, body(n)) for n in range(11)] == [True, *[False] * 6, *[True] * 4]
    assert cache.evictions == 6
    assert cache.usage() == (60 * KIB, 5)


def test_the_order_of_use_outlives_the_process(
    opened: Callable[..., NodeCache], clock: Clock
) -> None:
    first = opened(max_bytes=36 * KIB, low_water=1.0)
    for n in range(3):
        clock.now += 1
        add(first, body(n))
    clock.now += 1
    first.notes.used(Kind.CONTENT, sha256(body(0)))
    first.close()
    second = opened(max_bytes=36 * KIB, low_water=1.0)
    add(second, body(3))
    assert [holds(second, body(n)) for n in range(4)] == [True, False, True, True]


def test_a_content_larger_than_the_cache_empties_nothing(
    opened: Callable[..., NodeCache],
) -> None:
    cache = opened(max_bytes=100 * KIB)
    add(cache, body(1))
    assert add(cache, body(2, 95 * KIB)) == 0
    assert holds(cache, body(1))


def test_a_reader_goes_on_when_its_content_is_evicted(opened: Callable[..., NodeCache]) -> None:
    cache = opened(max_bytes=24 * KIB, low_water=0.5)
    add(cache, body(1))
    handle = cache.open_content(sha256(body(1)), 10 * KIB)
    assert handle is not None
    add(cache, body(2))
    add(cache, body(3))
    assert not holds(cache, body(1))
    assert os.pread(handle, 10 * KIB, 0) == body(1)
    os.close(handle)


def test_a_content_of_another_size_is_not_used_and_then_removed(
    opened: Callable[..., NodeCache], expect_log: Callable[[str], None]
) -> None:
    expect_log(f"cached content {sha256(body(1)).hex()} is damaged")
    cache = opened()
    add(cache, body(1))
    path = cache.places.file(Kind.CONTENT, sha256(body(1)))
    os.truncate(path, 100)
    assert not holds(cache, body(1))
    assert not holds(cache, body(1))
    taken = cache.notes.take()
    cache.flush(taken)
    cache.notes.done(taken)
    assert not path.exists()
    add(cache, body(1))
    assert holds(cache, body(1))


def test_what_a_killed_process_announced_is_taken_back(
    opened: Callable[..., NodeCache],
) -> None:
    killed = opened()
    add(killed, body(1))
    key = (Kind.CONTENT, sha256(body(2)))
    with killed.state.transaction() as db:
        killed.announce(db, {key: 12 * KIB})
    # Killed between the rename and the commit: the file is there, and no row knows of it.
    killed.places.file(*key).write_bytes(body(2))
    (killed.places.temporary / killed.owner / "draft").write_bytes(b"half")
    living = opened()
    assert living.usage() == (24 * KIB, 1), "a living process keeps its announcement"
    living.close()
    abandon(killed)
    after = opened()
    assert after.usage() == (12 * KIB, 1)
    assert not holds(after, body(2))
    assert [folder.name for folder in after.places.temporary.iterdir()] == [after.owner]


def test_a_damaged_database_is_set_aside_and_what_is_right_is_kept(
    opened: Callable[..., NodeCache], expect_log: Callable[[str], None]
) -> None:
    expect_log(r"state.sqlite is damaged .* set aside as state.sqlite.damaged-\d+ and rebuilt")
    cache = opened()
    add(cache, body(1), body(2))
    keep_catalog(cache, sha256(b"catalog"), b"catalog")
    cache.close()
    wrong = cache.places.file(Kind.CONTENT, sha256(body(2)))
    wrong.chmod(0o644)
    wrong.write_bytes(flipped(body(2)))
    (cache.places.contents / "00" / "rubbish").write_bytes(b"?")
    (cache.places.root / "partial" / ("ab" * 32)).write_bytes(b"?")
    cache.places.state.write_bytes(b"SQLite format 3\0" + os.urandom(8000))
    again = opened()
    assert holds(again, body(1))
    assert not wrong.exists()
    assert kept_catalog(again, sha256(b"catalog")) is not None
    assert again.usage() == (12 * KIB + 4096, 1)
    assert rows(again) == again.usage()[0]
    assert len(list(again.places.root.glob("state.sqlite.damaged-*"))) == 1
    left = {path.name for path in again.places.root.rglob("*") if path.is_file()}
    assert "rubbish" not in left
    assert "ab" * 32 not in left


@pytest.mark.parametrize("cut", [1, 100, 4096, 10_000])
def test_no_length_of_the_database_keeps_the_cache_from_opening(
    opened: Callable[..., NodeCache], expect_log: Callable[[str], None], cut: int
) -> None:
    expect_log("state.sqlite is damaged")
    cache = opened()
    add(cache, *(body(n, 100) for n in range(200)))
    cache.close()
    os.truncate(cache.places.state, cut)
    again = opened()
    assert holds(again, body(7, 100))
    assert again.usage() == (200 * 4096, 200)


def test_a_database_of_another_version_is_set_aside(
    opened: Callable[..., NodeCache], expect_log: Callable[[str], None]
) -> None:
    expect_log("version 99, this thinfs knows 4")
    cache = opened()
    add(cache, body(1))
    cache.close()
    with sqlite3.connect(cache.places.state) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert holds(opened(), body(1))


def test_a_process_follows_when_another_one_rebuilds_the_database(
    opened: Callable[..., NodeCache], expect_log: Callable[[str], None]
) -> None:
    expect_log("is damaged")
    old = opened()
    add(old, body(1))
    old.places.state.with_name("state.sqlite-wal").unlink()
    old.places.state.write_bytes(b"rubbish")
    new = opened()
    add(old, body(2))
    assert new.usage() == (24 * KIB, 2)
    assert old.usage() == (24 * KIB, 2)


def test_after_a_reboot_only_what_had_reached_the_disk_is_used(
    opened: Callable[..., NodeCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened()
    add(cache, body(1))
    cache.settle()
    add(cache, body(2))
    content = chunked(body(9, 64 * KIB), 16 * KIB)
    part = PartialFile(cache, content, layout_digest(content))
    part.present = part.open()
    part.close()
    # A power cut loses the last transactions, and may keep files whose rows it lost.
    cache.places.file(Kind.CONTENT, sha256(body(3))).write_bytes(body(3))
    cache.close()
    with sqlite3.connect(cache.places.state) as db:
        db.execute("UPDATE about SET boot_id = 'another'")
    db.close()
    again = opened()
    assert [holds(again, body(n)) for n in (1, 2, 3)] == [True, False, False]
    assert again.usage() == (12 * KIB, 1)
    assert list((again.places.root / "partial").iterdir()) == []


def test_a_read_only_disk_is_a_store_error_and_contents_can_still_be_read(
    opened: Callable[..., NodeCache], tmp_path: Path
) -> None:
    first = opened()
    add(first, body(1))
    first.close()
    elsewhere = NodeCache(tmp_path / "file" / "cache", max_bytes=1, low_water=0.9)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        elsewhere.open()
    assert not elsewhere.writable
    assert elsewhere.open_content(sha256(body(1)), 10 * KIB) is None
    unopened = NodeCache(tmp_path / "cache", max_bytes=1 << 20, low_water=0.9)
    assert holds(unopened, body(1))
    with pytest.raises(StoreError, match="not open for writing"):
        unopened.add_contents({sha256(b"x"): b"x"})
    unopened.close()


def test_a_failed_write_leaves_nothing_and_can_be_repeated(
    opened: Callable[..., NodeCache],
) -> None:
    cache = opened()
    key = (Kind.CONTENT, sha256(body(1)))

    def fail() -> None:
        with cache.pending({key: 12 * KIB}) as drafts:
            Path(drafts[key]).write_bytes(b"half")
            raise OSError(28, "boom")

    with pytest.raises(OSError, match="boom"):
        fail()
    assert cache.usage() == (0, 0)
    assert list(cache.places.temporary.glob("*/*")) == []
    add(cache, body(1))
    assert holds(cache, body(1))


def test_pinned_catalogs_stay_until_they_are_released_or_their_process_is_gone(
    opened: Callable[..., NodeCache], clock: Clock
) -> None:
    cache = opened(max_bytes=24 * KIB, low_water=0.5)
    path = keep_catalog(cache, sha256(body(1)), body(1))
    assert path.read_bytes() == body(1)
    for n in range(2, 6):
        clock.now += 1
        add(cache, body(n))
    assert kept_catalog(cache, sha256(body(1))) == path
    release_catalog(cache, sha256(body(1)))
    clock.now += 1
    for n in range(6, 9):
        clock.now += 1
        add(cache, body(n))
    assert kept_catalog(cache, sha256(body(1))) is None
    keep_catalog(cache, sha256(body(1)), body(1))
    abandon(cache)
    other = opened(max_bytes=24 * KIB, low_water=0.5)
    with other.state.transaction() as db:
        assert db.execute("SELECT count(*) FROM pins").fetchone() == (0,)


def test_when_only_pinned_files_are_left_there_is_no_room(
    opened: Callable[..., NodeCache],
) -> None:
    cache = opened(max_bytes=24 * KIB)
    for n in (1, 2):
        keep_catalog(cache, sha256(body(n)), body(n))
    with pytest.raises(StoreError, match="leaves no room"):
        add(cache, body(3))
    assert cache.usage()[0] == 24 * KIB


def test_bytes_that_are_not_the_catalog_are_not_kept(opened: Callable[..., NodeCache]) -> None:
    with pytest.raises(IntegrityError):
        keep_catalog(opened(), sha256(b"a"), b"b")


# Partial contents


def chunked(data: bytes, chunk: int) -> Content:
    extents = tuple(
        Extent(start, len(data[start : start + chunk]), sha256(data[start : start + chunk]), 0)
        for start in range(0, len(data), chunk)
    )
    return Content(sha256(data), len(data), extents)


def part_of(cache: NodeCache, content: Content) -> PartialFile:
    part = PartialFile(cache, content, layout_digest(content))
    part.present = part.open()
    return part


BIG = patterned(64 * KIB, 99)
CONTENT = chunked(BIG, 16 * KIB)


def write(part: PartialFile, index: int) -> bool:
    extent = part.content.extents[index]
    written = part.write(index, BIG[extent.offset : extent.offset + extent.length])
    if written:
        part.present.add(index)
    return written


def test_extents_are_remembered_across_processes_and_become_a_content(
    opened: Callable[..., NodeCache],
) -> None:
    first = opened()
    part = part_of(first, CONTENT)
    assert write(part, 2)
    assert first.usage() == (16 * KIB, 0)
    part.close()
    first.close()
    second = opened()
    part = part_of(second, CONTENT)
    assert part.present == {2}
    assert part.read(33 * KIB, 100) == BIG[33 * KIB : 33 * KIB + 100]
    for index in (0, 1, 3):
        assert write(part, index)
    assert part.complete
    part.publish()
    part.close()
    assert holds(second, BIG)
    assert second.usage() == (64 * KIB, 1)
    assert list((second.places.root / "partial").iterdir()) == []


def test_two_processes_fill_one_partial_file_and_count_it_once(
    opened: Callable[..., NodeCache],
) -> None:
    one, two = opened(), opened()
    here, there = part_of(one, CONTENT), part_of(two, CONTENT)
    assert write(here, 0)
    assert write(there, 0)
    assert write(there, 1)
    assert one.usage() == (32 * KIB, 0)
    for index in (2, 3):
        assert write(here, index)
    assert write(here, 1)
    here.publish()
    assert not write(there, 1), "the file is a whole content now"
    assert holds(two, BIG)
    assert two.usage() == (64 * KIB, 1)
    here.close()
    there.close()


def test_an_evicted_partial_file_is_noticed_by_its_writer(
    opened: Callable[..., NodeCache], clock: Clock
) -> None:
    cache = opened(max_bytes=48 * KIB, low_water=0.5)
    part = part_of(cache, CONTENT)
    write(part, 0)
    clock.now += 1
    for n in range(4):
        add(cache, body(n))
    assert not write(part, 1)
    assert rows(cache) == cache.usage()[0]
    part.close()
    part = part_of(cache, CONTENT)
    assert part.present == set()
    part.close()


def test_a_writer_of_an_evicted_file_leaves_the_one_that_took_its_place_alone(
    opened: Callable[..., NodeCache],
) -> None:
    one, two = opened(), opened()
    old = part_of(one, CONTENT)
    with two.state.transaction() as db:
        two.remove(db, Kind.PARTIAL, layout_digest(CONTENT))
    new = part_of(two, CONTENT)
    assert write(new, 0)
    assert not write(old, 1)
    assert two.usage() == (16 * KIB, 0)
    old.discard()
    assert write(new, 1)
    old.close()
    new.close()


def test_a_growing_file_evicts_others_and_never_itself(
    opened: Callable[..., NodeCache], clock: Clock
) -> None:
    cache = opened(max_bytes=64 * KIB, low_water=1.0)
    part = part_of(cache, CONTENT)
    for n in range(4):
        add(cache, body(n))
    for index in range(4):
        assert write(part, index)
    assert cache.usage() == (64 * KIB, 0)
    part.publish()
    part.close()
    assert holds(cache, BIG)


def test_another_layout_of_the_same_content_has_a_file_of_its_own(
    opened: Callable[..., NodeCache],
) -> None:
    cache = opened()
    honest, other = part_of(cache, CONTENT), part_of(cache, chunked(BIG, 32 * KIB))
    assert other.write(0, bytes(32 * KIB))
    assert honest.present == set()
    honest.close()
    other.close()
    again = part_of(cache, CONTENT)
    assert again.present == set()
    again.close()
