from __future__ import annotations

import pytest

from tests.support.bench_results import BEGAN_UNIX_S, digest, made_trace
from thinfs.bench import trace as traces
from thinfs.bench.layout import Piece
from thinfs.control.values import Trace, TraceEvent

A, B, O1, O2 = (digest(name) for name in ("a", "b", "one", "two"))


def trace(*events: TraceEvent, began_unix_s: float = 100.0) -> Trace:
    return Trace("r", "app", began_unix_s, list(events), 0, {A: "bin/a"})


def read(
    name: str, at_s: float, took_s: float, *, waited: bool = True, length: int = 10
) -> TraceEvent:
    return TraceEvent("read", at_s, took_s, name, 0, length, waited)


def test_stalled_is_the_time_in_which_anybody_waited_not_their_sum() -> None:
    found = trace(read(A, 1.0, 0.5), read(B, 1.2, 0.5), read(A, 3.0, 0.25))
    assert traces.stalled(found, 100.0, 10.0) == pytest.approx(0.95)


def test_reads_that_did_not_wait_stall_nobody() -> None:
    assert traces.stalled(trace(read(A, 1.0, 0.5, waited=False)), 100.0, 10.0) == 0


def test_only_what_lies_between_begin_and_ready_counts_as_stalled() -> None:
    found = trace(read(A, 0.0, 1.0), read(B, 1.8, 1.0), read(A, 5.0, 1.0))
    assert traces.stalled(found, 100.5, 1.5) == pytest.approx(0.5 + 0.2)


def test_waits_are_added_up_by_path_longest_first() -> None:
    found = traces.waits(trace(read(A, 1.0, 0.2), read(B, 1.1, 0.3), read(A, 2.0, 0.2)), 100, 9)
    assert [(each.path, each.bytes) for each in found] == [("bin/a", 20), (f"content {B[:12]}", 10)]
    assert [each.seconds for each in found] == pytest.approx([0.4, 0.3])
    assert found[0].at_s == 1.0


def test_waits_for_metadata_have_a_name_of_their_own() -> None:
    found = traces.waits(trace(read("metadata", 1.0, 0.2)), 100.0, 9.0)
    assert found[0].path == traces.METADATA_PATH


def test_bars_are_in_the_starts_own_time() -> None:
    found = traces.bars(trace(read(A, 1.0, 0.2), began_unix_s=102.0), 100.0, 9.0)
    assert [(bar.lane, bar.at_s, bar.text) for bar in found] == [("wait", 3.0, "bin/a")]


def test_what_began_after_ready_is_no_bar() -> None:
    assert traces.bars(trace(read(A, 3.0, 1.0)), 100.0, 2.0) == ()


def test_too_many_bars_lose_short_reads_that_did_not_wait() -> None:
    quick = [read(A, n * 1e-4, 1e-6, waited=False) for n in range(traces.MAX_BARS + 50)]
    found = traces.bars(trace(*quick, read(B, 0.5, 0.1), read(A, 0.6, 0.1, waited=False)), 100, 9)
    assert len(found) == traces.MAX_BARS
    assert sum(bar.lane == "wait" for bar in found) == 1
    assert sum(bar.seconds == 0.1 for bar in found) == 2


def fetch(name: str, length: int, what: str = "fetch") -> TraceEvent:
    return TraceEvent(what, 1.0, 0.1, name, 0, length)


def test_an_object_counts_as_unread_by_the_part_that_nobody_read() -> None:
    pieces = {O1: [Piece(A, 0, 300), Piece(B, 0, 700)]}
    found = trace(fetch(O1, 500), read(A, 2.0, 0.1, length=300))
    assert traces.unread(found, pieces, {O1: 1000}, ()) == 350


def test_a_content_that_the_kernel_opened_counts_as_read() -> None:
    pieces = {O1: [Piece(A, 0, 300), Piece(B, 0, 700)]}
    assert traces.unread(trace(fetch(O1, 500, "prefetch")), pieces, {O1: 1000}, {B}) == 150


def test_the_same_bytes_read_twice_count_once() -> None:
    pieces = {O1: [Piece(A, 0, 1000)]}
    found = trace(fetch(O1, 1000), *(read(A, 2.0, 0.1, length=400) for _ in range(3)))
    assert traces.unread(found, pieces, {O1: 1000}, ()) == 600


def test_only_the_piece_in_the_object_counts() -> None:
    pieces = {O1: [Piece(A, 100, 100)], O2: [Piece(A, 0, 100)]}
    found = trace(fetch(O1, 50), fetch(O2, 50), read(A, 2.0, 0.1, length=150))
    assert traces.unread(found, pieces, {O1: 100, O2: 100}, ()) == 25


def test_objects_of_unknown_layout_are_unread_and_published_files_are_none() -> None:
    found = trace(fetch(O1, 70), fetch(f"catalogs/{A[:2]}/{A}", 900))
    assert traces.unread(found, {}, {}, ()) == 70
    assert traces.fetched(found) == {O1}


def test_a_trace_can_be_cut_off_at_a_moment() -> None:
    found = traces.until(trace(read(A, 1.0, 0.5), read(B, 2.0, 0.5)), 101.9)
    assert [each.name for each in found.events] == [A]


def test_a_whole_start_is_explained() -> None:
    found = made_trace()
    waits = traces.waits(found, BEGAN_UNIX_S, 1.0)
    stalled = traces.stalled(found, BEGAN_UNIX_S, 1.0)
    assert 0 < stalled <= sum(wait.seconds for wait in waits)
    assert {bar.lane for bar in traces.bars(found, BEGAN_UNIX_S, 1.0)} == {
        *("attach", "mount", "open", "read", "wait", "fetch", "prefetch")
    }
