"""As much of tar as bundles need: plain regular files, written and read as a stream.

The format is ustar (POSIX.1-1988). Names have at most 100 characters and files at most 8 GiB,
so a header says everything, and a reader need not believe extensions that could ask for any
amount of memory.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from thinfs.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK: Final = 512
MAX_SIZE: Final = (8 << 30) - 1
PIECE_BYTES: Final = 1 << 20
_NUL_BLOCK: Final = bytes(BLOCK)
_REGULAR: Final = frozenset({b"0", b"\0"})


def member_header(name: str, size: int) -> bytes:
    """The header of one regular file: readable by all, of root, from 1970."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def write_member(stream: IO[bytes], name: str, data: bytes) -> None:
    """Write one file whose bytes are here."""
    stream.write(member_header(name, len(data)))
    stream.write(data)
    stream.write(bytes(-len(data) % BLOCK))


def write_file(stream: IO[bytes], name: str, file: Path) -> int:
    """Write one file from the disk; gives its size."""
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        stream.write(member_header(name, size))
        shutil.copyfileobj(opened, stream, PIECE_BYTES)
    stream.write(bytes(-size % BLOCK))
    return size


def write_end(stream: IO[bytes]) -> None:
    """Write what ends an archive."""
    stream.write(2 * _NUL_BLOCK)


@dataclass(slots=True)
class Member:
    """One file of a stream, to be read before the next one is asked for.

    Attributes:
        name: as the archive has it.
        size: its bytes.
    """

    name: str
    size: int
    _stream: IO[bytes]
    _left: int

    def pieces(self) -> Iterator[bytes]:
        """What was not read yet, in pieces of at most 1 MiB.

        Raises:
            FormatError: the stream ends too early.
        """
        while self._left:
            piece = _exactly(self._stream, min(self._left, PIECE_BYTES))
            self._left -= len(piece)
            yield piece

    def read(self, max_bytes: int) -> bytes:
        """The whole file.

        Raises:
            FormatError: it is longer than ``max_bytes``, or the stream ends too early.
        """
        if self.size > max_bytes:
            raise FormatError(f"{self.name} has {self.size} bytes, more than {max_bytes}")
        return b"".join(self.pieces())

    def finish(self) -> None:
        """Pass over what was not read, and over what fills the last block."""
        rest = self._left + -self.size % BLOCK
        self._left = 0
        while rest:
            rest -= len(_exactly(self._stream, min(rest, PIECE_BYTES)))


def members(stream: IO[bytes]) -> Iterator[Member]:
    """The files of an archive, in order; the archive must come to its proper end.

    Raises:
        FormatError: it is no tar archive, holds what bundles do not, or ends too early.
    """
    while (header := _exactly(stream, BLOCK)) != _NUL_BLOCK:
        try:
            info = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise FormatError(f"no bundle: {error}") from error
        if info.type not in _REGULAR or not 0 <= info.size <= MAX_SIZE:
            raise FormatError(f"no bundle: {info.name!r} is no plain file")
        member = Member(info.name, info.size, stream, info.size)
        yield member
        member.finish()


def _exactly(stream: IO[bytes], count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = stream.read(count)
        if not part:
            raise FormatError(
                "the bundle ends too early; what has arrived stays, so load it again from its"
                " beginning"
            )
        parts.append(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
