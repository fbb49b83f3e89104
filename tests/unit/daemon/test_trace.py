"""What is written down of a root, and what of it belongs to which root."""

from __future__ import annotations

from dataclasses import dataclass

from thinfs.daemon.belonging import shown
from thinfs.daemon.trace import MAX_EVENTS, Belonging, Traces

A, B, METADATA, OBJECT = b"a" * 32, b"b" * 32, b"m" * 32, b"o" * 32


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def belonging(*contents: bytes) -> Belonging:
    return Belonging(
        content=lambda digest: digest in (*contents, METADATA),
        object=lambda digest: digest == OBJECT,
        files=frozenset({"catalogs/aa"}),
        metadata=METADATA,
    )


def test_events_have_their_times_since_the_root_was_attached() -> None:
    clock = Clock()
    traces = Traces(clock, lambda: 1_700_000_000.0)
    traces.begin("one", "test/image:1")
    clock.now = 101.5
    traces.step("one", "attach", "boot record", 100.5)
    traces.read(A, 7, 20, 101.25, waited=True)
    traces.fetched(OBJECT, 300, 101.0, demanded=True)
    traces.fetched("catalogs/aa", 400, 101.0, demanded=False)
    traces.read(METADATA, 0, 4096, 101.5, waited=False)
    trace = traces.trace("one", belonging(A), {A: "usr/bin/a"})
    assert trace is not None
    assert (trace.origin, trace.began_unix_s) == ("test/image:1", 1_700_000_000.0)
    assert [(e.what, e.at_s, e.duration_s, e.name) for e in trace.events] == [
        ("attach", 0.5, 1.0, "boot record"),
        ("read", 1.25, 0.25, A.hex()),
        ("fetch", 1.0, 0.5, OBJECT.hex()),
        ("prefetch", 1.0, 0.5, "catalogs/aa"),
        ("read", 1.5, 0.0, "metadata"),
    ]
    read = trace.events[1]
    assert (read.offset, read.length, read.waited) == (7, 20, True)
    assert trace.paths == {A.hex(): "usr/bin/a"}
    assert traces.contents("one") == {A, METADATA}


def test_a_root_has_what_happened_to_its_own_contents_since_it_came() -> None:
    traces = Traces(Clock(), lambda: 0.0)
    traces.begin("one", "1")
    traces.read(A, 0, 1, 0.0, waited=False)
    traces.begin("two", "2")
    traces.read(B, 0, 1, 0.0, waited=False)
    traces.fetched(b"x" * 32, 1, 0.0, demanded=True)
    one = traces.trace("one", belonging(A), {})
    two = traces.trace("two", belonging(A, B), {})
    assert one is not None
    assert two is not None
    assert [event.name for event in one.events] == [A.hex()]
    assert [event.name for event in two.events] == [B.hex()]


def test_a_trace_is_bounded_and_its_beginning_is_kept() -> None:
    traces = Traces(Clock(), lambda: 0.0)
    traces.begin("one", "1")
    for number in range(MAX_EVENTS + 5):
        traces.read(A, number, 1, 0.0, waited=False)
    trace = traces.trace("one", belonging(A), {})
    assert trace is not None
    assert (len(trace.events), trace.dropped) == (MAX_EVENTS, 5)
    assert trace.events[-1].offset == MAX_EVENTS - 1


def test_a_root_that_is_gone_has_no_trace() -> None:
    traces = Traces(Clock(), lambda: 0.0)
    traces.begin("one", "1")
    traces.end("one")
    traces.read(A, 0, 1, 0.0, waited=False)
    traces.step("one", "mount", "mounting", 0.0)
    assert traces.trace("one", belonging(A), {}) is None
    assert traces.contents("one") == set()


def test_paths_are_shown_as_text() -> None:
    assert shown("usr/größe 100%".encode()) == "usr/größe 100%25"
    assert shown(b"a/\xff%") == "a/%FF%25"
