"""From bytes that somebody sent to bytes that are what they were asked for. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

import zstandard

from thinfs.errors import FormatError, IntegrityError

_FRAME_OVERHEAD: Final = 1 << 10


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
    try:
        data = decompress(frame, size)
    except FormatError as error:
        raise IntegrityError(f"{name} from {source} is damaged: {error}") from error
    found = hashlib.sha256(data).digest()
    if found != digest:
        raise IntegrityError(f"{name} from {source} is damaged: its SHA-256 is {found.hex()}")
    return data


def _promise(content_size: int) -> str:
    unknown = content_size == zstandard.CONTENTSIZE_UNKNOWN
    return "unknown size" if unknown else f"{content_size} bytes"
