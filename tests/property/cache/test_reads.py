"""Whatever contents, extents, quotas and ranges there are: a read gives the model's bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.model import Extent
from tests.support.reading import ScriptedSource, World, patterned
from thinfs.cache.contents import ContentStore, RootContents
from thinfs.cache.directory import NodeCache
from thinfs.cache.plan import pieces
from thinfs.config import CacheConfig, SourcesConfig
from thinfs.fetch.fetcher import Fetcher

MAX_BODY = 40_000

# A body as (hole before, data) runs, and a hole at its end.
BODIES = st.tuples(
    st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 9000)), min_size=1, max_size=4),
    st.integers(0, 3000),
)
READS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, MAX_BODY), st.integers(0, MAX_BODY)),
    min_size=1,
    max_size=12,
)


def add_body(world: World, runs: list[tuple[int, int]], tail: int, seed: int, shared: bytes) -> int:
    """A content whose runs lie, in turn, in objects of their own and in the shared object."""
    body, extents = bytearray(), []
    for n, (hole, length) in enumerate(runs):
        body += bytes(hole)
        if n % 2:
            place = seed * 100 % 1000
            data = shared[place : place + length]
            extents.append(Extent(len(body), len(data), world.add_object(shared), place))
        else:
            data = patterned(length, seed * 10 + n)
            padded = bytes(seed) + data + b"behind"
            extents.append(Extent(len(body), len(data), world.add_object(padded), seed))
        body += data
    body += bytes(tail)
    return world.add_content(bytes(body), extents)


@settings(max_examples=25, deadline=None)
@given(
    bodies=st.lists(BODIES, min_size=1, max_size=5),
    reads=READS,
    max_bytes=st.sampled_from([8_000, 60_000, 1 << 30]),
    memory_bytes=st.sampled_from([1, 20_000, 1 << 20]),
    drained=st.booleans(),
)
def test_reads_give_the_bytes_of_the_model(
    bodies: list[tuple[list[tuple[int, int]], int]],
    reads: list[tuple[int, int, int]],
    max_bytes: int,
    memory_bytes: int,
    drained: bool,
) -> None:
    world = World()
    shared = patterned(10_000, 77)
    for seed, (runs, tail) in enumerate(bodies):
        add_body(world, runs, tail, seed, shared)

    async def check(folder: Path) -> None:
        cache = NodeCache(folder, max_bytes=max_bytes, low_water=0.8)
        cache.open()
        async with trio.open_nursery() as nursery:
            fetcher = Fetcher(nursery, [], SourcesConfig())
            store = ContentStore(nursery, cache, fetcher, CacheConfig(memory_bytes=memory_bytes))
            root = RootContents(world, (ScriptedSource(world.files),))
            opened = {number: store.open(root, number) for number in world.contents}
            for which, offset, length in reads:
                number = which % len(opened) + 1
                expected = world.bodies[number][offset : offset + length]
                assert await opened[number].read(offset, length) == expected
                if drained:
                    await store.drain()
            await store.drain()
            status = await store.status()
            assert status.used_bytes <= max_bytes
            on_disk = sum(
                path.stat().st_size for path in (folder / "contents").rglob("*") if path.is_file()
            )
            assert max_bytes == 1 << 30 or on_disk <= 4 * max_bytes  # holes take no room
            for body in opened.values():
                body.close()
            nursery.cancel_scope.cancel()
        cache.close()

    with tempfile.TemporaryDirectory() as folder:
        trio.run(check, Path(folder))


@given(
    runs=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=6),
    offset=st.integers(0, 400),
    length=st.integers(1, 400),
)
def test_the_parts_of_a_read_cover_what_extents_cover_and_nothing_twice(
    runs: list[tuple[int, int]], offset: int, length: int
) -> None:
    extents, end, model = [], 0, bytearray(1000)
    for n, (hole, size) in enumerate(runs):
        extents.append(Extent(end + hole, size, bytes([n]) * 32, n))
        model[end + hole : end + hole + size] = bytes([n + 1]) * size
        end += hole + size
    result = bytearray(length)
    for part in pieces(extents, offset, length):
        assert part.start >= 0
        assert part.start + part.length <= part.extent.length
        assert not any(result[part.target : part.target + part.length])
        result[part.target : part.target + part.length] = bytes([part.index + 1]) * part.length
    assert result == model[offset : offset + length]
