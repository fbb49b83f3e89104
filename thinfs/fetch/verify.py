"""From bytes that somebody sent to bytes that are what they were asked for. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import zstandard

from thinfs.errors import FormatError, IntegrityError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_FRAME_OVERHEAD: Final = 1 << 10
FRAME_HEADER_BYTES: Final = 18
"""Most bytes that a frame's header has (RFC 8878, section 3.1.1)."""
PIECE_BYTES: Final = 1 << 20
MAX_WINDOW_BYTES: Final = 128 << 20
"""Memory that a frame may ask for when it is decompressed in pieces: zstd's largest level does."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What bytes must be.

    Attributes:
        digest: SHA-256 of the uncompressed bytes, 32 bytes.
        size: of the uncompressed bytes.
        name: what was asked for, for messages.
        source: who sent it, for messages.
    """

    digest: bytes
    size: int
    name: str
    source: str

    def damaged(self, why: str) -> IntegrityError:
        """The error that says so."""
        return IntegrityError(f"{self.name} from {self.source} is damaged: {why}")


def stored_bound(size: int) -> int:
    """Most bytes that a zstd frame of ``size`` uncompressed bytes is accepted with.

    zstd's own bound for bytes that do not compress is about ``size * 257 / 256``.
    """
    return size + (size >> 7) + _FRAME_OVERHEAD


def decompress(frame: bytes, size: int) -> bytes:
    """Decompress one zstd frame that must say, and give, exactly ``size`` bytes.

    Raises:
        FormatError: it is no single zstd frame, or one of another size.
    """
    try:
        promised = zstandard.get_frame_parameters(frame).content_size
        if promised != size:
            raise FormatError(f"a frame of {_promise(promised)} where {size} bytes belong")
        # With a promised size the output is exactly that large, or decompression fails. It is
        # one pass from frame to output: whatever window the frame asks for is never allocated.
        decompressor = zstandard.ZstdDecompressor()
        data = decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"no zstd frame: {error}") from error
    if len(data) != size:
        raise FormatError(f"{len(data)} bytes where {size} belong")
    return data


def verified(frame: bytes, *, digest: bytes, size: int, name: str, source: str) -> bytes:
    """Decompress a stored frame and compare its digest.

    Args:
        frame: as it came.
        digest: SHA-256 of the uncompressed bytes, 32 bytes.
        size: of the uncompressed bytes.
        name: what was asked for, for the message.
        source: who sent it, for the message.

    Raises:
        IntegrityError: these are other bytes, whatever the reason; names both.
    """
    expected = Expected(digest, size, name, source)
    try:
        data = decompress(frame, expected.size)
    except FormatError as error:
        raise expected.damaged(str(error)) from error
    _compare(hashlib.sha256(data), expected)
    return data


def verified_file(frame: BinaryIO, into: Path, expected: Expected) -> None:
    """Decompress a stored frame into a file and compare its digest, with bounded memory.

    Args:
        frame: a file with the frame, read from its beginning.
        into: the file that is written; what is in there after an exception is nothing.
        expected: what it must be.

    Raises:
        IntegrityError: these are other bytes, whatever the reason; names both.
        OSError: ``into`` cannot be written.
    """
    frame.seek(0)
    promised = _promised(frame.read(FRAME_HEADER_BYTES))
    if promised != expected.size:
        raise expected.damaged(
            f"a frame of {_promise(promised)} where {expected.size} bytes belong"
        )
    frame.seek(0)
    digest, left = hashlib.sha256(), expected.size
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    with into.open("wb") as file, decompressor.stream_reader(frame) as reader:
        while piece := _piece(reader, expected):
            left -= len(piece)
            digest.update(piece)
            file.write(piece)
    if left:
        raise expected.damaged(f"{expected.size - left} bytes where {expected.size} belong")
    _compare(digest, expected)


def _piece(reader: zstandard.ZstdDecompressionReader, expected: Expected) -> bytes:
    try:
        return reader.read(PIECE_BYTES)
    except zstandard.ZstdError as error:
        raise expected.damaged(f"no zstd frame: {error}") from error


def _compare(digest: hashlib._Hash, expected: Expected) -> None:
    if digest.digest() != expected.digest:
        raise expected.damaged(f"its SHA-256 is {digest.hexdigest()}")


def _promised(head: bytes) -> int:
    try:
        return zstandard.get_frame_parameters(head).content_size
    except zstandard.ZstdError:
        return zstandard.CONTENTSIZE_UNKNOWN


def _promise(content_size: int) -> str:
    unknown = content_size == zstandard.CONTENTSIZE_UNKNOWN
    return "unknown size" if unknown else f"{content_size} bytes"
