from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest
import zstandard

from thinfs.convert.objects import ObjectWriter
from thinfs.convert.pack import Packed, Packer
from thinfs.errors import FormatError, StoreError
from thinfs.store.index import ContentIndex
from thinfs.store.layout import MAX_OBJECT_BYTES, SMALL_CONTENT_BYTES, object_path
from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.model import Content


class Bench:
    """A repository, its index, and packers on it."""

    def __init__(self, path: Path) -> None:
        self.repository = LocalRepository.open_or_create(path / "repo")
        self.index = ContentIndex(self.repository.path / "index.sqlite")
        self.work = path / "repo" / "tmp"
        self.work.mkdir(exist_ok=True)

    def pack(self, *bodies: bytes) -> tuple[dict[bytes, Content], Packer]:
        """Pack bodies in one go; the contents by digest."""
        packed: list[Packed] = []
        with ObjectWriter(self.repository, self.work, threads=2) as writer:
            packer = Packer(self.repository, self.index, writer)
            for body in bodies:
                packer.add(blocks(body), len(body))
                packed += packer.settled()
            packed += packer.finish()
        for each in packed:
            self.index.add(each.objects, each.contents)
        return {c.digest: c for each in packed for c in each.contents}, packer

    def read(self, content: Content) -> bytes:
        """The content's bytes, put together from stored objects as a reader would."""
        body = bytearray(content.size)
        for extent in content.extents:
            frame = (self.repository.path / object_path(extent.object)).read_bytes()
            whole = zstandard.decompress(frame)
            assert hashlib.sha256(whole).digest() == extent.object
            assert len(whole) <= MAX_OBJECT_BYTES
            part = whole[extent.object_offset : extent.object_offset + extent.length]
            body[extent.offset : extent.offset + extent.length] = part
        return bytes(body)

    def objects(self) -> int:
        return sum(1 for _ in (self.repository.path / "objects").glob("*/*"))


def blocks(body: bytes, size: int = 300_000) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.index.close()


def test_bodies_of_every_size_come_back(bench: Bench) -> None:
    sizes = [
        1,
        SMALL_CONTENT_BYTES - 1,
        SMALL_CONTENT_BYTES,
        MAX_OBJECT_BYTES - 1,
        MAX_OBJECT_BYTES,
        MAX_OBJECT_BYTES + 1,
        3 * MAX_OBJECT_BYTES + 7,
    ]
    bodies = [noise(size, seed) for seed, size in enumerate(sizes)]
    contents, _ = bench.pack(*bodies)
    assert len(contents) == len(sizes)
    for body in bodies:
        assert bench.read(contents[hashlib.sha256(body).digest()]) == body


def test_small_bodies_share_bundles_in_their_order(bench: Bench) -> None:
    bodies = [noise(1000, seed) for seed in range(2_000)]
    contents, _ = bench.pack(*bodies)
    assert bench.objects() == 2
    places = [contents[hashlib.sha256(body).digest()].extents[0] for body in bodies]
    assert [p.object_offset for p in places[:3]] == [0, 1000, 2000]


def test_small_bodies_of_a_directory_lie_in_one_bundle_whatever_came_in_between(
    bench: Bench,
) -> None:
    outer, inner = ([noise(20_000, salt + n) for n in range(20)] for salt in (0, 100))
    with ObjectWriter(bench.repository, bench.work, threads=2) as writer:
        packer = Packer(bench.repository, bench.index, writer)
        for number, body in enumerate(outer):
            packer.add(blocks(body), len(body), b"lib")
            for more in range(4):
                between = noise(15_000, 1000 * number + more)
                packer.add(blocks(between), len(between), b"lib/package%d" % number)
        for body in inner:
            packer.add(blocks(body), len(body), b"share")
        contents = {c.digest: c for each in packer.finish() for c in each.contents}
    assert bench.objects() >= 2
    for bodies in (outer, inner):
        found = [contents[hashlib.sha256(body).digest()].extents[0] for body in bodies]
        assert [one.object_offset + 20_000 for one in found[:-1]] == [
            two.object_offset for two in found[1:]
        ]


def test_a_body_is_stored_once_in_one_run_and_in_the_next(bench: Bench) -> None:
    small, large = noise(5_000, 1), noise(2 * MAX_OBJECT_BYTES, 2)
    first, counts = bench.pack(small, large, small, large)
    stored = bench.objects()
    assert counts.counts.deduplicated_bytes == len(small) + len(large)
    again, counts = bench.pack(noise(10, 3), large, small)
    assert bench.objects() == stored + 1
    assert counts.counts.deduplicated_bytes == len(small) + len(large)
    assert again[hashlib.sha256(small).digest()] == first[hashlib.sha256(small).digest()]


def test_a_content_whose_object_is_gone_is_stored_again(bench: Bench) -> None:
    body = noise(5_000, 1)
    contents, _ = bench.pack(body, noise(7, 2))
    extent = contents[hashlib.sha256(body).digest()].extents[0]
    (bench.repository.path / object_path(extent.object)).unlink()
    again, _ = bench.pack(body)
    assert bench.read(again[hashlib.sha256(body).digest()]) == body


def test_zeros_are_holes(bench: Bench) -> None:
    tail = noise(100, 1)
    body = bytes(4 * MAX_OBJECT_BYTES) + tail
    contents, _ = bench.pack(body, bytes(2 * MAX_OBJECT_BYTES))
    assert bench.objects() == 1
    assert bench.read(contents[hashlib.sha256(body).digest()]) == body
    assert contents[hashlib.sha256(bytes(2 * MAX_OBJECT_BYTES)).digest()].extents == ()


@pytest.mark.parametrize("size", [100, SMALL_CONTENT_BYTES * 2])
def test_a_body_of_another_size_is_refused(bench: Bench, size: int) -> None:
    with ObjectWriter(bench.repository, bench.work, threads=1) as writer:
        packer = Packer(bench.repository, bench.index, writer)
        with pytest.raises(FormatError, match="a file of"):
            packer.add(blocks(noise(size - 1, 0)), size)


def test_a_disk_that_refuses_is_reported(bench: Bench) -> None:
    (bench.repository.path / "objects").write_text("in the way")
    with pytest.raises(StoreError):
        bench.pack(noise(MAX_OBJECT_BYTES, 1))


def test_an_object_keeps_its_first_frame(bench: Bench) -> None:
    body = noise(100, 1)
    digest = hashlib.sha256(body).digest()
    first = zstandard.compress(body, 3)
    assert bench.repository.put_object(digest, first, bench.work) == (len(first), True)
    other = first + b"\x50\x2a\x4d\x18\x00\x00\x00\x00"
    assert bench.repository.put_object(digest, other, bench.work) == (len(first), False)
    assert (bench.repository.path / object_path(digest)).read_bytes() == first
