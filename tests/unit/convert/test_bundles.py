from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

from catalog.model import Content, Extent
from thinfs.convert.bundles import Slice, bundles, slices, spliced
from thinfs.convert.runs import Run
from thinfs.convert.touched import Touch
from thinfs.store.layout import MAX_OBJECT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

MIB = 1 << 20


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def small(name: str, size: int) -> Touch:
    extent = Extent(0, size, digest("bundle"), 100)
    return Touch(Content(digest(name), size, (extent,)), name.encode(), (Run(0, size),))


def large(name: str, chunks: int, runs: Iterable[Run]) -> Touch:
    extents = tuple(Extent(i * MIB, MIB, digest(f"{name}{i}"), 0) for i in range(chunks))
    return Touch(Content(digest(name), chunks * MIB, extents), name.encode(), tuple(runs))


def bytes_of(groups: Iterable[tuple[Slice, ...]]) -> list[tuple[bytes, int]]:
    return [
        (each.content.digest, byte)
        for group in groups
        for each in group
        for byte in range(each.run.offset, each.run.end, 4096)
    ]


def test_contents_lie_in_the_order_in_which_they_are_touched() -> None:
    touches = [small(str(i), 1000 + i) for i in range(50)]
    [group] = bundles(slices(touches))
    assert [each.content for each in group] == [touch.content for touch in touches]


def test_of_a_large_content_only_what_was_touched_is_packed() -> None:
    runs = (Run(4096, 8192), Run(3 * MIB - 4096, 8192))
    found = list(bundles(slices([large("lib", 5, runs)])))
    assert bytes_of(found) == [
        (digest("lib"), at) for run in runs for at in range(run.offset, run.end, 4096)
    ]


def test_no_bundle_is_larger_than_an_object() -> None:
    rng = random.Random(4)
    touches = [small(str(i), rng.randrange(1, 131_072)) for i in range(300)]
    touches.append(large("lib", 9, [Run(0, 9 * MIB)]))
    sizes = [sum(each.run.length for each in group) for group in bundles(slices(touches))]
    assert max(sizes) <= MAX_OBJECT_BYTES
    assert sum(sizes) == sum(run.length for touch in touches for run in touch.runs)


def test_a_small_content_is_never_cut() -> None:
    touches = [small(str(i), 100_000) for i in range(100)]
    found = [each for group in bundles(slices(touches)) for each in group]
    assert [each.run for each in found] == [Run(0, 100_000)] * 100


def test_holes_are_not_packed() -> None:
    content = Content(digest("sparse"), 4 * MIB, (Extent(2 * MIB, MIB, digest("o"), 0),))
    found = list(slices([Touch(content, b"sparse", (Run(0, 4 * MIB),))]))
    assert sum(each.run.length for each in found) == MIB
    assert {each.run.offset >= 2 * MIB for each in found} == {True}


def test_one_changed_content_leaves_most_bundles_as_they_were() -> None:
    rng = random.Random(5)
    before = [small(str(i), rng.randrange(1000, 60_000)) for i in range(600)]
    after = list(before)
    after[200] = small("changed", 31_000)
    old, new = (set(bundles(slices(each))) for each in (before, after))
    assert len(old) > 15
    assert len(new - old) <= 3


def test_spliced_extents_lead_to_the_same_bytes() -> None:
    rng = random.Random(6)
    for _ in range(200):
        size = 64
        store: dict[bytes, bytes] = {}
        body = rng.randbytes(size)
        content = Content(digest("x"), size, tuple(_random_extents(rng, body, store, "catalog")))
        placed = [
            each
            for each in _random_extents(rng, _seen(content, store), store, "boot")
            if rng.random() < 0.5
        ]
        both = Content(content.digest, size, spliced(content, placed))
        assert _seen(both, store) == _seen(content, store)
        assert all(
            one.offset + one.length <= other.offset
            for one, other in zip(both.extents, both.extents[1:], strict=False)
        )


def _random_extents(
    rng: random.Random, body: bytes, store: dict[bytes, bytes], name: str
) -> list[Extent]:
    """Extents of some of a body, and the objects they lie in."""
    found, at = [], 0
    while at < len(body):
        length = min(rng.randrange(1, 20), len(body) - at)
        if rng.random() < 0.8:
            key = digest(f"{name}{at}")
            store[key] = bytes(3) + body[at : at + length]
            found.append(Extent(at, length, key, 3))
        at += length
    return found


def _seen(content: Content, store: dict[bytes, bytes]) -> bytes:
    body = bytearray(content.size)
    for e in content.extents:
        part = store[e.object][e.object_offset : e.object_offset + e.length]
        body[e.offset : e.offset + e.length] = part
    return bytes(body)
