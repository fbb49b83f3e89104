"""Bundles' tar: what we write, everybody reads; what we read is plain or refused."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinfs.errors import FormatError
from thinfs.repository.tar import member_header, members, write_end, write_member

NAMES = st.text("abcdef0123456789/-.", min_size=1, max_size=100).filter(
    lambda name: not name.endswith("/")
)
FILES = st.lists(st.tuples(NAMES, st.binary(max_size=2_000)), max_size=6)


def archive(files: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    for name, data in files:
        write_member(stream, name, data)
    write_end(stream)
    return stream.getvalue()


def read_all(data: bytes) -> list[tuple[str, bytes]]:
    return [(each.name, each.read(1 << 20)) for each in members(io.BytesIO(data))]


class Trickle(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 7))


@given(FILES)
def test_what_is_written_is_read_back(files: list[tuple[str, bytes]]) -> None:
    assert read_all(archive(files)) == files


@given(FILES)
def test_what_is_written_other_tools_read_too(files: list[tuple[str, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(files)), mode="r:") as tar:
        found = [(each.name, each.size, each.mode, each.mtime) for each in tar]
    assert found == [(name, len(data), 0o644, 0) for name, data in files]


def test_a_slow_pipe_and_a_reader_that_looks_at_nothing_do_no_harm() -> None:
    data = archive([("a", b"x" * 5_000), ("b", b"yy")])
    names = [each.name for each in members(Trickle(data))]  # type: ignore[arg-type] # a raw stream reads like any
    assert names == ["a", "b"]


@given(FILES.filter(bool), st.data())
def test_a_stream_that_ends_too_early_is_noticed(
    files: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    whole = archive(files)
    end = data.draw(st.integers(0, len(whole) - 1025))
    with pytest.raises(FormatError):
        read_all(whole[:end])


@given(st.binary(max_size=3_000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        read_all(b"\1" + data)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, b"x", b"g", b"L", b"S"],
)
def test_what_is_no_plain_file_is_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("a")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(FormatError, match="is no plain file"):
        list(members(io.BytesIO(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))))


def test_a_size_in_base_256_is_no_way_to_a_negative_one() -> None:
    header = bytearray(member_header("a", 5))
    header[124:136] = b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    with pytest.raises(FormatError):
        list(members(io.BytesIO(bytes(header) + bytes(2048))))


def test_a_file_that_is_larger_than_it_may_be_is_not_read() -> None:
    [first] = [next(members(io.BytesIO(archive([("a", b"x" * 100)]))))]
    with pytest.raises(FormatError, match="more than 99"):
        first.read(99)
