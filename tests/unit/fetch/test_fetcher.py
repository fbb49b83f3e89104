"""One verified download for however many readers, from the first source that has it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from catalog.model import ObjectRef
from tests.support.reading import ScriptedSource, World, patterned
from thinfs.config import SourcesConfig
from thinfs.errors import FormatError, IntegrityError, MissingError, ThinfsError, TransportError
from thinfs.fetch.circuits import RECOVERY_S
from thinfs.fetch.download import ROUND_S
from thinfs.fetch.fetcher import Fetcher
from thinfs.fetch.gate import Priority
from thinfs.store.layout import MAX_OBJECT_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio.testing import MockClock

DATA = patterned(5000)


@pytest.fixture
def world() -> World:
    made = World()
    made.add_object(DATA)
    return made


@pytest.fixture
def ref(world: World) -> ObjectRef:
    return next(iter(world.objects.values()))


@asynccontextmanager
async def fetching(*mirrors: ScriptedSource, **changes: Any) -> AsyncIterator[Fetcher]:
    config = SourcesConfig(**{"attempts": 3, "connections": 4} | changes)
    async with trio.open_nursery() as nursery:
        yield Fetcher(nursery, mirrors, config, pause_s=lambda _: 0.0)
        nursery.cancel_scope.cancel()


async def test_many_readers_share_one_download(world: World, ref: ObjectRef) -> None:
    source = ScriptedSource(world.files, "h")
    got: list[bytes] = []

    async def read(fetcher: Fetcher) -> None:
        got.append(await fetcher.object(ref, [source]))

    async with fetching() as fetcher, trio.open_nursery() as readers:
        for _ in range(50):
            readers.start_soon(read, fetcher)
        await trio.testing.wait_all_tasks_blocked()
        assert fetcher.counters.status(trio.current_time()).waiting == 50
        source.release.set()
    assert got == [DATA] * 50
    assert len(source.asked) == 1
    assert fetcher.counters.requests == 1
    assert fetcher.counters.bytes == len(world.files[source.asked[0][0]])
    assert fetcher.counters.status(0).waiting == 0


async def test_a_reader_who_leaves_does_not_take_the_download_with_him(
    world: World, ref: ObjectRef
) -> None:
    source = ScriptedSource(world.files, "h")
    got: list[bytes] = []

    async def read(fetcher: Fetcher) -> None:
        got.append(await fetcher.object(ref, [source]))

    async with fetching() as fetcher, trio.open_nursery() as readers:
        with trio.CancelScope() as impatient:
            async with trio.open_nursery() as other:
                other.start_soon(read, fetcher)
                await trio.testing.wait_all_tasks_blocked()
                readers.start_soon(read, fetcher)
                await trio.testing.wait_all_tasks_blocked()
                impatient.cancel()
        assert source.running == 1
        source.release.set()
    assert got == [DATA]
    assert len(source.asked) == 1


async def test_the_last_reader_who_leaves_ends_the_download(world: World, ref: ObjectRef) -> None:
    source = ScriptedSource(world.files, "h")
    async with fetching() as fetcher:
        with trio.CancelScope() as impatient:
            async with trio.open_nursery() as other:
                other.start_soon(fetcher.object, ref, [source])
                await trio.testing.wait_all_tasks_blocked()
                impatient.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert source.running == 0
        assert await fetcher.object(ref, [source]) == DATA
    assert len(source.asked) == 2


@pytest.mark.expects_log("does not answer")
@pytest.mark.parametrize(
    ("scripts", "asked"),
    [
        (["r"], [1]),
        (["EEr"], [3]),
        (["m", "r"], [1, 1]),
        (["EEE", "r"], [3, 1]),
        (["EEE", "m", "Er"], [3, 1, 2]),
    ],
)
async def test_sources_are_tried_in_order_each_as_often_as_configured(
    world: World, ref: ObjectRef, mock_clock: MockClock, scripts: list[str], asked: list[int]
) -> None:
    sources = [
        ScriptedSource(world.files, script, url=f"http://s{n}") for n, script in enumerate(scripts)
    ]
    async with fetching() as fetcher:
        assert await fetcher.object(ref, sources) == DATA
    assert [len(source.asked) for source in sources] == asked
    assert fetcher.counters.errors == sum(asked) - 1


@pytest.mark.parametrize("letter", ["w", "t", "l"])
async def test_damage_is_never_served_and_the_next_source_is_asked(
    world: World, ref: ObjectRef, expect_log: Callable[[str], None], letter: str
) -> None:
    expect_log(rf"object {ref.digest.hex()} from http://bad is damaged")
    bad = ScriptedSource(world.files, url="http://bad", otherwise=letter)
    good = ScriptedSource(world.files, url="http://good")
    async with fetching() as fetcher:
        assert await fetcher.object(ref, [bad, good]) == DATA
    assert [fresh for _, fresh in bad.asked] == [False, True]
    assert fetcher.counters.integrity_errors == 2


async def test_damage_in_a_cache_on_the_way_is_healed_by_asking_past_it(
    world: World, ref: ObjectRef, expect_log: Callable[[str], None]
) -> None:
    expect_log(f"object {ref.digest.hex()} from http://scripted.test is damaged")
    source = ScriptedSource(world.files, "w")
    async with fetching() as fetcher:
        assert await fetcher.object(ref, [source]) == DATA
    assert [fresh for _, fresh in source.asked] == [False, True]


async def test_a_directory_with_damage_is_not_asked_again(
    world: World, ref: ObjectRef, expect_log: Callable[[str], None]
) -> None:
    expect_log("is damaged")
    source = ScriptedSource(world.files, "w", behind_caches=False, url="file:///repo")
    async with fetching() as fetcher:
        with pytest.raises(IntegrityError, match=rf"{ref.digest.hex()} from file:///repo"):
            await fetcher.object(ref, [source])
        assert len(source.asked) == 1
        assert await fetcher.object(ref, [source]) == DATA


@pytest.mark.expects_log("does not answer|is damaged")
@pytest.mark.parametrize(
    ("scripts", "error"),
    [
        (["m", "m"], MissingError),
        (["EEE", "m"], TransportError),
        (["m", "EEE"], TransportError),
        (["EEE", "ww"], IntegrityError),
        (["ww", "m"], IntegrityError),
        ([], TransportError),
    ],
)
async def test_the_reader_hears_of_damage_before_silence_before_absence(
    world: World,
    ref: ObjectRef,
    scripts: list[str],
    error: type[ThinfsError],
) -> None:
    sources = [
        ScriptedSource(world.files, script, url=f"http://s{n}") for n, script in enumerate(scripts)
    ]
    async with fetching(on_outage="fail_fast") as fetcher:
        with pytest.raises(error, match=ref.digest.hex()):
            await fetcher.object(ref, sources)


async def test_a_silent_source_costs_the_configured_time_and_the_next_read_succeeds(
    world: World, ref: ObjectRef, mock_clock: MockClock
) -> None:
    source = ScriptedSource(world.files, "h")
    async with fetching(read_timeout_s=20) as fetcher, trio.open_nursery() as readers:

        async def read() -> None:
            with pytest.raises(TransportError, match=r"no answer within 20 s"):
                await fetcher.object(ref, [source])

        readers.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(19)
        await trio.testing.wait_all_tasks_blocked()
        assert fetcher.counters.status(trio.current_time()).oldest_wait_s == pytest.approx(19)
        mock_clock.jump(1)
        await trio.testing.wait_all_tasks_blocked()
        assert fetcher.counters.status(trio.current_time()).waiting == 0
        assert await fetcher.object(ref, [source]) == DATA


async def test_the_deadline_says_what_went_wrong_last(
    world: World, ref: ObjectRef, mock_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    expect_log("repository http://dead does not answer")
    dead = ScriptedSource(world.files, url="http://dead", otherwise="E")
    silent = ScriptedSource(world.files, url="http://silent", otherwise="h")
    async with fetching() as fetcher, trio.open_nursery() as readers:

        async def read() -> None:
            with pytest.raises(TransportError, match=r"last: http://dead/\S+: scripted"):
                await fetcher.object(ref, [dead, silent])

        readers.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(61)


async def test_a_dead_source_is_reported_once_and_asked_last_until_it_answers(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture, expect_log: Callable[[str], None]
) -> None:
    expect_log("repository http://dead does not answer")
    world = World()
    refs = [world.objects[world.add_object(patterned(100, seed))] for seed in range(4)]
    dead = ScriptedSource(world.files, "EEE", url="http://dead")
    good = ScriptedSource(world.files, url="http://good")
    caplog.set_level("INFO")
    async with fetching(host_reset_s=30) as fetcher:
        for ref in refs[:3]:
            await fetcher.object(ref, [dead, good])
        assert len(dead.asked) == 3
        mock_clock.jump(31)
        await fetcher.object(refs[3], [dead, good])
    assert len(dead.asked) == 4
    messages = [record.message for record in caplog.records]
    assert sum("does not answer" in message for message in messages) == 1
    assert messages[-1] == "repository http://dead answers again"


async def test_a_reader_who_joins_brings_his_sources(world: World, ref: ObjectRef) -> None:
    first = ScriptedSource({}, "h", url="http://first")
    second = ScriptedSource(world.files, url="http://second")
    results: list[bytes] = []

    async def read(fetcher: Fetcher, source: ScriptedSource) -> None:
        results.append(await fetcher.object(ref, [source]))

    async with fetching() as fetcher, trio.open_nursery() as readers:
        readers.start_soon(read, fetcher, first)
        await trio.testing.wait_all_tasks_blocked()
        readers.start_soon(read, fetcher, second)
        await trio.testing.wait_all_tasks_blocked()
        first.release.set()
    assert results == [DATA, DATA]


async def test_mirrors_are_asked_before_what_a_recipe_names(world: World, ref: ObjectRef) -> None:
    mirror = ScriptedSource(world.files, "m", url="http://mirror")
    named = ScriptedSource(world.files, url="http://named")
    async with fetching(mirror) as fetcher:
        await fetcher.object(ref, [named, mirror])
    assert (len(mirror.asked), len(named.asked)) == (1, 1)


async def test_no_more_downloads_run_than_there_are_connections() -> None:
    world = World()
    refs = [world.objects[world.add_object(patterned(100, seed))] for seed in range(20)]
    source = ScriptedSource(world.files)
    async with fetching(connections=3) as fetcher, trio.open_nursery() as readers:
        for ref in refs:
            readers.start_soon(fetcher.object, ref, [source])
    assert source.most == 3
    assert len(source.asked) == 20


async def test_a_reader_overtakes_what_nobody_waits_for() -> None:
    world = World()
    refs = [world.objects[world.add_object(patterned(100, seed))] for seed in range(4)]
    paths = list(world.files)
    source = ScriptedSource(world.files, "h")
    async with fetching(connections=1) as fetcher, trio.open_nursery() as readers:
        readers.start_soon(fetcher.object, refs[0], [source])
        await trio.testing.wait_all_tasks_blocked()
        readers.start_soon(fetcher.object, refs[1], [source], Priority.BACKGROUND)
        readers.start_soon(fetcher.object, refs[2], [source], Priority.READ_AHEAD)
        await trio.testing.wait_all_tasks_blocked()
        readers.start_soon(fetcher.object, refs[3], [source], Priority.DEMAND)
        await trio.testing.wait_all_tasks_blocked()
        readers.start_soon(fetcher.object, refs[1], [source], Priority.DEMAND)
        await trio.testing.wait_all_tasks_blocked()
        source.release.set()
    assert [path for path, _ in source.asked] == [paths[n] for n in (0, 3, 1, 2)]


async def test_a_defect_in_one_answer_ends_neither_the_process_nor_other_reads(
    world: World, ref: ObjectRef, expect_log: Callable[[str], None]
) -> None:
    expect_log("unexpected failure")
    source = ScriptedSource(world.files, "x")
    async with fetching() as fetcher:
        with pytest.raises(TransportError, match="RuntimeError"):
            await fetcher.object(ref, [source])
        assert await fetcher.object(ref, [source]) == DATA


@pytest.mark.parametrize("size", [0, -1, MAX_OBJECT_BYTES + 1])
async def test_sizes_that_no_object_has_are_refused_without_a_request(
    world: World, ref: ObjectRef, size: int
) -> None:
    source = ScriptedSource(world.files)
    async with fetching() as fetcher:
        with pytest.raises(FormatError):
            await fetcher.object(ObjectRef(ref.digest, size, 10), [source])
    assert source.asked == []


async def test_a_catalog_with_a_wrong_size_hint_still_comes(world: World, ref: ObjectRef) -> None:
    (path,) = world.files
    source = ScriptedSource(world.files)
    async with fetching(source) as fetcher:
        assert await fetcher.blob(path, ref.digest, len(DATA), 1) == DATA


async def test_readers_hear_when_the_process_stops(world: World, ref: ObjectRef) -> None:
    source = ScriptedSource(world.files, "h")
    async with trio.open_nursery() as readers, fetching() as fetcher:

        async def read() -> None:
            with pytest.raises(TransportError, match="stopping"):
                await fetcher.object(ref, [source])

        readers.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()


# When nothing answers


@pytest.mark.expects_log("does not answer")
@pytest.mark.parametrize(("policy", "after_s"), [("eio", 60), ("wait", 600)])
async def test_readers_wait_as_long_as_the_policy_says_and_hear_why(
    world: World, ref: ObjectRef, autojump_clock: MockClock, policy: str, after_s: float
) -> None:
    dead = ScriptedSource(world.files, url="http://dead", otherwise="E")
    async with fetching(on_outage=policy, outage_timeout_s=600) as fetcher:
        began = trio.current_time()
        with pytest.raises(
            TransportError, match=rf"no answer within {after_s} s; last: http://dea"
        ):
            await fetcher.object(ref, [dead])
        assert trio.current_time() - began == pytest.approx(after_s)


@pytest.mark.expects_log("does not answer")
async def test_who_wants_to_know_at_once_is_told_after_every_source_was_tried_once(
    world: World, ref: ObjectRef, autojump_clock: MockClock
) -> None:
    dead = ScriptedSource(world.files, url="http://dead", otherwise="E")
    async with fetching(on_outage="fail_fast") as fetcher:
        with pytest.raises(TransportError, match="scripted"):
            await fetcher.object(ref, [dead])
        assert len(dead.asked) == 3
        with pytest.raises(TransportError, match=r"has just failed, not asked again: http://dead"):
            await fetcher.object(ref, [dead])
        assert len(dead.asked) == 3
        dead.otherwise = "r"
        await trio.sleep(RECOVERY_S)
        assert await fetcher.object(ref, [dead]) == DATA


@pytest.mark.expects_log("does not answer")
async def test_readers_who_wait_get_their_bytes_soon_after_the_source_is_back(
    autojump_clock: MockClock,
) -> None:
    world = World()
    refs = [world.objects[world.add_object(patterned(100, seed))] for seed in range(50)]
    source = ScriptedSource(world.files, url="http://dead", otherwise="E")
    got: list[float] = []

    async def read(fetcher: Fetcher, ref: ObjectRef) -> None:
        await fetcher.object(ref, [source])
        got.append(trio.current_time())

    async with fetching() as fetcher, trio.open_nursery() as readers:
        for ref in refs:
            readers.start_soon(read, fetcher, ref)
        await trio.sleep(40)
        asked, back = len(source.asked), trio.current_time()
        source.otherwise = "r"
    # Each was sent once for itself; after that one asked for all of them.
    assert asked < 3 * 50 + 3 * 40 / RECOVERY_S
    assert max(got) - back < RECOVERY_S + 2 * ROUND_S


@pytest.mark.expects_log("does not answer")
async def test_absence_is_believed_only_when_every_source_has_said_so(
    world: World, ref: ObjectRef, autojump_clock: MockClock
) -> None:
    empty = ScriptedSource({}, url="http://empty")
    other = ScriptedSource(world.files, "EEEEEE", url="http://other")
    async with fetching() as fetcher:
        assert await fetcher.object(ref, [empty, other]) == DATA
    assert len(empty.asked) == 1


@pytest.mark.expects_log("does not answer")
async def test_a_root_that_cannot_be_opened_is_heard_of_at_once(
    world: World, ref: ObjectRef, autojump_clock: MockClock
) -> None:
    (path,) = world.files
    dead = ScriptedSource(world.files, otherwise="E")
    async with fetching(on_outage="wait") as fetcher:
        with pytest.raises(TransportError, match="scripted"):
            await fetcher.blob(path, ref.digest, len(DATA), 100, sources=[dead])
        assert trio.current_time() < 5


class Busy(ScriptedSource):
    """Asks to be left alone for 30 s."""

    async def get(self, path: str, max_bytes: int, **_: Any) -> bytes:
        self.asked.append((path, False))
        raise TransportError("busy", retry_after_s=30)


@pytest.mark.expects_log("does not answer")
async def test_the_only_source_is_left_alone_too_when_it_asks_for_that(
    world: World, ref: ObjectRef, autojump_clock: MockClock
) -> None:
    busy = Busy(world.files, url="http://busy")
    async with fetching(read_timeout_s=100) as fetcher:
        with pytest.raises(TransportError, match=r"no answer within 100 s; last: .*busy"):
            await fetcher.object(ref, [busy])
    assert len(busy.asked) == 4


@pytest.mark.expects_log("does not answer")
async def test_who_asks_for_patience_is_not_asked_again_and_others_are(
    world: World, ref: ObjectRef
) -> None:
    busy, good = Busy(world.files, url="http://busy"), ScriptedSource(world.files)
    async with fetching() as fetcher:
        for _ in range(3):
            assert await fetcher.object(ref, [busy, good]) == DATA
        (circuit,) = [c for c in fetcher.status().circuits if not c.ok]
    assert len(busy.asked) == 1
    assert circuit.address == "http://busy"
    assert circuit.next_try_s == pytest.approx(30, abs=5)


async def test_proxies_are_for_what_comes_over_http(world: World, ref: ObjectRef) -> None:
    folder = ScriptedSource({}, url="file:///repo", behind_caches=False)
    server = ScriptedSource(world.files, url="http://server")
    async with fetching(proxies="http://a:1;DIRECT") as fetcher:
        assert await fetcher.object(ref, [folder, server]) == DATA
    assert folder.proxies == [None]
    assert server.proxies == ["http://a:1"]


# The cap for what nobody waits for


async def test_prefetch_keeps_to_its_rate_and_readers_do_not(autojump_clock: MockClock) -> None:
    world = World()
    refs = [world.objects[world.add_object(patterned(10_000, seed))] for seed in range(30)]
    source = ScriptedSource(world.files)
    async with fetching(source, background_bytes_per_s=10_000) as fetcher:
        began = trio.current_time()
        async with trio.open_nursery() as readers:
            for ref in refs[:10]:
                readers.start_soon(fetcher.object, ref, (), Priority.BACKGROUND)
            for ref in refs[10:20]:
                readers.start_soon(fetcher.object, ref, (), Priority.READ_AHEAD)
        assert trio.current_time() - began == pytest.approx(19, abs=1.5)
        began = trio.current_time()
        for ref in refs[20:]:
            await fetcher.object(ref, ())
        assert trio.current_time() == began


async def test_a_reader_ends_the_wait_for_the_rate(autojump_clock: MockClock) -> None:
    world = World()
    refs = [world.objects[world.add_object(patterned(10_000, seed))] for seed in range(5)]
    source = ScriptedSource(world.files)
    async with (
        fetching(source, background_bytes_per_s=10) as fetcher,
        trio.open_nursery() as ahead,
    ):
        for ref in refs:
            ahead.start_soon(fetcher.object, ref, (), Priority.BACKGROUND)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        for ref in refs:
            assert await fetcher.object(ref, ())
        assert trio.current_time() == began
