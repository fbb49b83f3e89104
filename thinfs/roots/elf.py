"""What an ELF file is going to load: its interpreter and the libraries that it names. Pure.

Only what the System V ABI says of program headers and the dynamic section is looked at. Files are
hostile: whatever they say, numbers and lengths are bounded and nothing but :class:`FormatError` is
raised.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from thinfs.errors import FormatError

MAGIC: Final = b"\x7fELF"
HEAD_BYTES: Final = 4096
"""Bytes of a file that hold its header and program headers."""

MAX_DYNAMIC_BYTES: Final = 16 << 10
MAX_NAMES: Final = 256
NAME_BYTES: Final = 256
"""Longest name that is looked at, its end included."""

_LOAD, _DYNAMIC, _INTERP = 1, 2, 3
_NEEDED, _STRTAB = 1, 5


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes of a file.

    Attributes:
        offset: first byte.
        length: bytes.
    """

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Load:
    address: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Program:
    """What the program headers of a file say.

    Attributes:
        interpreter: where its interpreter's path is, if it has one.
        dynamic: where its dynamic section is, if it has one.
    """

    interpreter: Run | None
    dynamic: Run | None
    _word: str
    _loads: tuple[_Load, ...]

    def names(self, dynamic: bytes) -> list[Run]:
        """Where the names of the libraries are that it needs.

        Args:
            dynamic: bytes of the dynamic section.

        Raises:
            FormatError: it is malformed.
        """
        entries = list(
            struct.iter_unpack(f"{self._word}{self._word[1]}", _whole(dynamic, self._word))
        )
        tables = [value for tag, value in entries if tag == _STRTAB]
        if not tables:
            return []
        start = self._at(tables[0])
        offsets = [value for tag, value in entries if tag == _NEEDED][:MAX_NAMES]
        return [Run(start + offset, NAME_BYTES) for offset in offsets if offset < 1 << 31]

    def _at(self, address: int) -> int:
        for load in self._loads:
            if load.address <= address < load.address + load.length:
                return load.offset + address - load.address
        raise FormatError("an ELF file whose names are nowhere")


def parse(head: bytes) -> Program:
    """Read a file's header and program headers.

    Args:
        head: the first bytes of the file, at most :data:`HEAD_BYTES`.

    Raises:
        FormatError: it is no ELF file, or one that says what cannot be.
    """
    try:
        return _parse(head)
    except (struct.error, IndexError, KeyError) as error:
        raise FormatError(f"not an ELF file that can be run: {error}") from error


def text(data: bytes) -> bytes:
    """A name: the bytes before the first NUL."""
    return data.split(b"\0", 1)[0]


def _parse(head: bytes) -> Program:
    if not head.startswith(MAGIC):
        raise FormatError("no ELF file")
    order = {1: "<", 2: ">"}[head[5]]
    if head[4] == 2:
        word = f"{order}Q"
        table, size, count = _header(head, f"{order}Q", 32, f"{order}HH", 54)
        segments = [_segment64(order, head, table + index * size) for index in range(count)]
    else:
        word = f"{order}I"
        table, size, count = _header(head, f"{order}I", 28, f"{order}HH", 42)
        segments = [_segment32(order, head, table + index * size) for index in range(count)]
    loads = tuple(
        _Load(address, offset, n) for kind, offset, address, n in segments if kind == _LOAD
    )
    return Program(
        interpreter=_first(segments, _INTERP, NAME_BYTES),
        dynamic=_first(segments, _DYNAMIC, MAX_DYNAMIC_BYTES),
        _word=word,
        _loads=loads,
    )


def _header(head: bytes, word: str, at: int, pair: str, sizes_at: int) -> tuple[int, int, int]:
    (table,) = struct.unpack_from(word, head, at)
    size, count = struct.unpack_from(pair, head, sizes_at)
    if size == 0 or table + size * count > len(head):
        raise FormatError("an ELF file whose program headers are not at its beginning")
    return table, size, count


def _segment64(order: str, head: bytes, at: int) -> tuple[int, int, int, int]:
    kind, _, offset, address, _, length = struct.unpack_from(f"{order}IIQQQQ", head, at)
    return kind, offset, address, length


def _segment32(order: str, head: bytes, at: int) -> tuple[int, int, int, int]:
    kind, offset, address, _, length = struct.unpack_from(f"{order}IIIII", head, at)
    return kind, offset, address, length


def _first(segments: list[tuple[int, int, int, int]], wanted: int, most: int) -> Run | None:
    for kind, offset, _, length in segments:
        if kind == wanted:
            return Run(offset, min(length, most))
    return None


def _whole(data: bytes, word: str) -> bytes:
    size = 2 * struct.calcsize(word)
    return data[: len(data) // size * size]
