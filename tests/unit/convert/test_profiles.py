"""Profiles: made of traces, merged, and found again in an image."""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING

import msgspec
import pytest

from catalog.merge import merge
from catalog.model import Content, Entry, EntryKind, Extent, ObjectRef, TreeKind
from catalog.reader import CatalogReader
from catalog.writer import CatalogWriter
from thinfs.control.values import Trace, TraceEvent
from thinfs.convert.profile_merge import merge_profiles
from thinfs.convert.profile_trace import profile_from_trace
from thinfs.convert.runs import Run
from thinfs.convert.touched import find_touched
from thinfs.errors import UsageError
from thinfs.store.profiles import Profile, Touched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHAIN = "sha256:" + "a" * 64
IMAGE = "sha256:" + "e" * 64
MIB = 1 << 20
SIZES = {b"bin/sh": 900, b"lib/a.so": 5 * MIB, b"lib/b.py": 100, b"lib/\xff": 7, b"lib/z": 100}


def name_of(path: bytes, salt: str = "") -> str:
    return hashlib.sha256(path + salt.encode()).hexdigest()


def write_root(target: Path, sizes: dict[bytes, int]) -> CatalogReader:
    layer = target.with_suffix(".layer")
    with CatalogWriter(layer, TreeKind.LAYER) as writer:
        for path, size in sizes.items():
            digest = bytes.fromhex(name_of(path))
            ref = ObjectRef(digest, MIB, 9)
            writer.add_object(ref)
            extents = tuple(
                Extent(at, min(MIB, size - at), digest, 0) for at in range(0, size, MIB)
            )
            writer.add_content(Content(digest, size, extents))
            writer.add(
                Entry(path, EntryKind.NODE, mode=stat.S_IFREG | 0o644, size=size, content=digest)
            )
        writer.finish()
    with CatalogReader.open(layer) as reader:
        merge([reader], target)
    return CatalogReader.open(target)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[CatalogReader]:
    with write_root(tmp_path / "root", SIZES) as reader:
        yield reader


def read(path: bytes, at_s: float, offset: int = 0, length: int = 50) -> TraceEvent:
    return TraceEvent("read", at_s, 0.01, name_of(path), offset, length)


def trace(*events: TraceEvent) -> Trace:
    return Trace("id", "docker.io/library/x:1", 0.0, list(events))


def profile(*touched: Touched, runs: int = 1, ready_ms: int = 100, **more: object) -> Profile:
    made = Profile(1, CHAIN, "docker.io/library/x:1", runs, ready_ms, touched)
    return msgspec.structs.replace(made, **more)


def touch(path: bytes, at_ms: int = 0, *ranges: tuple[int, int]) -> Touched:
    return Touched(name_of(path), path.decode("ascii"), at_ms, ranges)


def test_contents_come_in_the_order_of_their_first_read(root: CatalogReader) -> None:
    made = profile_from_trace(
        trace(read(b"lib/b.py", 0.5), read(b"bin/sh", 0.2), read(b"lib/b.py", 0.1)),
        root,
        chain_id=CHAIN,
        ready_s=1.0,
    )
    assert [(each.path, each.at_ms) for each in made.touched] == [
        ("lib/b.py", 100),
        ("bin/sh", 200),
    ]
    assert (made.runs, made.ready_ms, made.origin) == (1, 1000, "docker.io/library/x:1")


def test_times_count_from_the_start_of_the_container(root: CatalogReader) -> None:
    made = profile_from_trace(
        trace(read(b"bin/sh", 0.2), read(b"lib/b.py", 1.75)),
        root,
        chain_id=CHAIN,
        ready_s=3.0,
        started_s=0.5,
    )
    assert [each.at_ms for each in made.touched] == [0, 1250]
    assert made.ready_ms == 2500


def test_what_is_read_after_it_is_ready_is_no_part_of_the_start(root: CatalogReader) -> None:
    made = profile_from_trace(
        trace(read(b"bin/sh", 0.2), read(b"lib/b.py", 1.2)), root, chain_id=CHAIN, ready_s=1.0
    )
    assert [each.path for each in made.touched] == ["bin/sh"]


def test_only_parts_of_large_contents_are_named(root: CatalogReader) -> None:
    made = profile_from_trace(
        trace(
            read(b"lib/a.so", 0.1, 4096, 4096),
            read(b"lib/a.so", 0.2, 0, 4096),
            read(b"lib/a.so", 0.3, 2 * MIB, 4096),
            read(b"bin/sh", 0.4, 100, 1),
        ),
        root,
        chain_id=CHAIN,
        ready_s=1.0,
    )
    assert [each.ranges for each in made.touched] == [((0, 8192), (2 * MIB, 4096)), ()]


def test_a_content_that_is_read_to_its_end_needs_no_ranges(root: CatalogReader) -> None:
    made = profile_from_trace(
        trace(*(read(b"lib/a.so", at, at * MIB, MIB) for at in range(5))),
        root,
        chain_id=CHAIN,
        ready_s=9.0,
    )
    assert made.touched[0].ranges == ()


def test_other_events_and_foreign_contents_are_left_out(root: CatalogReader) -> None:
    made = profile_from_trace(
        trace(
            TraceEvent("fetch", 0.1, 0.1, name_of(b"bin/sh"), 0, 9),
            TraceEvent("read", 0.1, 0.1, "../../etc/passwd", 0, 9),
            read(b"not in this root", 0.2),
        ),
        root,
        chain_id=CHAIN,
        ready_s=1.0,
    )
    assert made.touched == ()


def test_reads_of_the_metadata_image_are_kept_when_it_is_known(root: CatalogReader) -> None:
    events = [TraceEvent("read", at, 0.0, "metadata", at * 4096, 4096) for at in (3, 1, 2)]
    known = profile_from_trace(trace(*events), root, chain_id=CHAIN, ready_s=9, metadata=IMAGE)
    assert (known.metadata, known.metadata_ranges) == (IMAGE, ((4096, 12288),))
    unknown = profile_from_trace(trace(*events), root, chain_id=CHAIN, ready_s=9)
    assert (unknown.metadata, unknown.metadata_ranges) == ("", ())


def test_a_path_that_is_no_text_is_still_found(root: CatalogReader) -> None:
    made = profile_from_trace(
        trace(read(b"lib/\xff", 0.1, 0, 7)), root, chain_id=CHAIN, ready_s=1.0
    )
    assert made.touched[0].path == "lib/%FF"
    gone = Touched("0" * 64, made.touched[0].path)
    found = find_touched(profile(gone), root)
    assert [each.path for each in found.found] == [b"lib/\xff"]


def test_a_merged_profile_is_in_the_order_of_median_times() -> None:
    merged = merge_profiles(
        [
            profile(touch(b"a", 10), touch(b"b", 20), touch(b"c", 30)),
            profile(touch(b"c", 5), touch(b"a", 12), touch(b"b", 14)),
            profile(touch(b"b", 1), touch(b"a", 11), touch(b"c", 40)),
        ]
    )
    assert [(each.path, each.at_ms) for each in merged.touched] == [("a", 11), ("b", 14), ("c", 30)]
    assert merged.runs == 3


def test_what_few_runs_touch_is_dropped_unless_all_is_wanted() -> None:
    profiles = [profile(touch(b"a")), profile(touch(b"a"), touch(b"b")), profile(touch(b"a"))]
    assert [each.path for each in merge_profiles(profiles).touched] == ["a"]
    assert {each.path for each in merge_profiles(profiles, 0).touched} == {"a", "b"}
    assert [each.path for each in merge_profiles(profiles, 1.0).touched] == ["a"]


def test_a_content_seen_in_half_of_the_runs_is_kept() -> None:
    merged = merge_profiles([profile(touch(b"a")), profile(touch(b"b"))])
    assert {each.path for each in merged.touched} == {"a", "b"}


def test_a_profile_of_many_runs_counts_as_often() -> None:
    merged = merge_profiles(
        [profile(touch(b"a", 7), runs=5, ready_ms=50), profile(touch(b"b"), ready_ms=900)]
    )
    assert [(each.path, each.at_ms) for each in merged.touched] == [("a", 7)]
    assert (merged.runs, merged.ready_ms) == (6, 50)


def test_all_parts_that_any_run_touched_are_kept() -> None:
    one, two = (profile(touch(b"a", 0, (start, 10))) for start in (0, 5))
    assert merge_profiles([one, two]).touched[0].ranges == ((0, 15),)
    whole = profile(touch(b"a", 0))
    assert merge_profiles([one, whole]).touched[0].ranges == ()


def test_metadata_of_one_image_is_joined_and_of_another_left_out() -> None:
    one = profile(metadata=IMAGE, metadata_ranges=((0, 4096),))
    two = profile(metadata=IMAGE, metadata_ranges=((8192, 4096),))
    other = profile(metadata=CHAIN, metadata_ranges=((4096, 4096),))
    merged = merge_profiles([one, two, other])
    assert (merged.metadata, merged.metadata_ranges) == (IMAGE, ((0, 4096), (8192, 4096)))


def test_profiles_of_different_images_are_not_merged() -> None:
    with pytest.raises(UsageError, match="different images"):
        merge_profiles([profile(), profile(chain_id=IMAGE)])
    with pytest.raises(UsageError, match="no profile"):
        merge_profiles([])


def test_contents_are_found_by_digest_whatever_their_paths(root: CatalogReader) -> None:
    found = find_touched(profile(Touched(name_of(b"lib/z"), "moved/away")), root)
    assert [each.content.digest.hex() for each in found.found] == [name_of(b"lib/z")]
    assert (found.changed, found.gone) == (0, 0)


def test_a_content_that_has_changed_is_found_by_its_path(root: CatalogReader) -> None:
    found = find_touched(profile(Touched(name_of(b"bin/sh", "old"), "bin/sh")), root)
    assert [each.content.digest.hex() for each in found.found] == [name_of(b"bin/sh")]
    assert (found.changed, found.gone) == (1, 0)


def test_what_is_gone_altogether_is_counted_and_passed_over(root: CatalogReader) -> None:
    touched = [Touched("0" * 64, path) for path in ("usr/gone", "", "lib", "bin/sh/x", "../x")]
    found = find_touched(profile(*touched, touch(b"lib/z")), root)
    assert [each.content.digest.hex() for each in found.found] == [name_of(b"lib/z")]
    assert found.gone == 5


def test_parts_are_taken_in_whole_pages_and_inside_the_content(root: CatalogReader) -> None:
    touched = touch(b"lib/a.so", 0, (5000, 10), (MIB, 1), (5 * MIB - 1, 100), (9 * MIB, 5))
    found = find_touched(profile(touched), root)
    assert found.found[0].runs == (Run(4096, 4096), Run(MIB, 4096), Run(5 * MIB - 4096, 4096))


def test_a_content_that_shrank_below_all_that_was_read_is_taken_whole(root: CatalogReader) -> None:
    found = find_touched(profile(touch(b"lib/a.so", 0, (9 * MIB, 5))), root)
    assert found.found[0].runs == (Run(0, 5 * MIB),)


def test_two_entries_that_lead_to_one_content_become_one(root: CatalogReader) -> None:
    old = Touched("0" * 64, "lib/a.so", 0, ((4 * MIB, 4096),))
    found = find_touched(profile(touch(b"lib/a.so", 0, (0, 4096)), old), root)
    assert [each.runs for each in found.found] == [(Run(0, 4096), Run(4 * MIB, 4096))]
