"""From bytes that somebody sent to bytes that are what they were asked for."""

from __future__ import annotations

import resource
import tempfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.support.reading import flipped, patterned, sha256
from thinfs.errors import FormatError, IntegrityError
from thinfs.fetch.verify import Expected, decompress, stored_bound, verified, verified_file
from thinfs.store.layout import MAX_OBJECT_BYTES, MAX_STORED_OBJECT_BYTES

if TYPE_CHECKING:
    from pathlib import Path

DATA = patterned(70_000)


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


@pytest.mark.parametrize("level", [1, 3, 19])
@pytest.mark.parametrize("size", [1, 4096, 70_000, MAX_OBJECT_BYTES])
def test_a_frame_gives_its_bytes_at_every_level(level: int, size: int) -> None:
    data = patterned(size)
    assert decompress(zstandard.ZstdCompressor(level=level).compress(data), size) == data


def test_a_frame_that_promises_another_size_is_refused_before_it_is_decompressed() -> None:
    bomb = frame(bytes(1 << 28))
    with pytest.raises(FormatError, match="a frame of 268435456 bytes where 1000 bytes belong"):
        decompress(bomb, 1000)


def test_a_frame_that_hides_its_size_is_refused() -> None:
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(DATA)
    with pytest.raises(FormatError, match="unknown size"):
        decompress(hidden, len(DATA))


def test_a_frame_that_gives_more_than_it_promises_is_refused() -> None:
    lying = bytearray(frame(bytes(100_000)))
    place = lying.index((100_000).to_bytes(4, "little"))
    lying[place : place + 4] = (50_000).to_bytes(4, "little")
    assert zstandard.get_frame_parameters(bytes(lying)).content_size == 50_000
    with pytest.raises(FormatError):
        decompress(bytes(lying), 50_000)


def test_a_frame_that_asks_for_a_gigabyte_of_window_gets_no_memory() -> None:
    magic, descriptor, window = b"\x28\xb5\x2f\xfd", b"\x40", bytes([20 << 3])
    block = (1000 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"a"  # last, run length encoded
    wide = magic + descriptor + window + (1000 - 256).to_bytes(2, "little") + block
    parameters = zstandard.get_frame_parameters(wide)
    assert (parameters.content_size, parameters.window_size) == (1000, 1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert decompress(wide, 1000) == b"a" * 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10  # KiB


@pytest.mark.parametrize("bad", [b"", b"\x28\xb5\x2f", b"not zstd at all", bytes(100)])
def test_what_is_no_frame_is_refused(bad: bytes) -> None:
    with pytest.raises(FormatError, match="zstd"):
        decompress(bad, 100)


def test_a_second_frame_or_rubbish_behind_the_first_is_refused() -> None:
    for extra in (frame(b"more"), b"rubbish"):
        with pytest.raises(FormatError):
            decompress(frame(DATA) + extra, len(DATA))


def test_wrong_bytes_are_reported_with_name_and_source() -> None:
    other = frame(flipped(DATA))
    with pytest.raises(IntegrityError, match=r"object ab from http://s is damaged: its SHA-256 is"):
        verified(other, digest=sha256(DATA), size=len(DATA), name="object ab", source="http://s")


def test_no_flipped_bit_of_a_frame_gives_other_bytes() -> None:
    stored = frame(DATA[:500])
    for place in range(len(stored)):
        bad = flipped(stored, place)
        try:
            data = verified(bad, digest=sha256(DATA[:500]), size=500, name="n", source="s")
        except IntegrityError:
            continue
        assert data == DATA[:500]


@pytest.mark.parametrize("size", [1, 100, 4096, MAX_OBJECT_BYTES])
def test_bytes_that_do_not_compress_stay_within_the_bound(size: int) -> None:
    assert len(frame(patterned(size))) <= stored_bound(size)
    assert len(frame(patterned(size))) <= MAX_STORED_OBJECT_BYTES


# Into files


def into_file(stored: bytes, folder: Path, expected: Expected) -> bytes:
    with tempfile.TemporaryFile(dir=folder) as held:
        held.write(stored)
        verified_file(held, folder / "out", expected)
    return (folder / "out").read_bytes()


@pytest.mark.parametrize("size", [1, 70_000, (1 << 20) + 1, 3 << 20])
def test_a_file_is_written_as_a_whole(tmp_path: Path, size: int) -> None:
    data = patterned(1000) * (size // 1000) + patterned(size % 1000)
    expected = Expected(sha256(data), len(data), "catalog ab", "http://s")
    assert into_file(frame(data), tmp_path, expected) == data


BAD_FRAMES = {
    "other bytes": frame(flipped(DATA)),
    "cut off": frame(DATA)[:-10],
    "another size": frame(DATA + b"x"),
    "no size": zstandard.ZstdCompressor(write_content_size=False).compress(DATA),
    "no frame": b"not zstd at all",
    "nothing": b"",
    "a bomb": frame(bytes(1 << 28)),
}


@pytest.mark.parametrize("stored", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_what_is_no_such_file_is_refused_with_name_and_source(
    tmp_path: Path, stored: bytes
) -> None:
    expected = Expected(sha256(DATA), len(DATA), "catalog ab", "http://s")
    with pytest.raises(IntegrityError, match=r"^catalog ab from http://s is damaged: "):
        into_file(stored, tmp_path, expected)


@pytest.mark.parametrize(("exponent", "taken"), [(17, True), (20, False)])
def test_a_frame_whose_window_is_larger_than_any_of_ours_is_refused(
    tmp_path: Path, exponent: int, taken: bool
) -> None:
    data = b"a" * (3 << 20)
    magic, descriptor, window = b"\x28\xb5\x2f\xfd", b"\x80", bytes([exponent << 3])
    blocks = [
        ((128 << 10) << 3 | 1 << 1 | (number == 23)).to_bytes(3, "little") + b"a"
        for number in range(24)
    ]  # run length encoded, 128 KiB each
    wide = magic + descriptor + window + len(data).to_bytes(4, "little") + b"".join(blocks)
    assert zstandard.get_frame_parameters(wide).window_size == 1 << (10 + exponent)
    expected = Expected(sha256(data), len(data), "catalog ab", "http://s")
    if taken:
        assert into_file(wide, tmp_path, expected) == data
    else:
        with pytest.raises(IntegrityError, match="is damaged"):
            into_file(wide, tmp_path, expected)
