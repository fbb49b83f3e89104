"""How many bytes a start needs at least: what it touches, compressed without regard to objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zstandard

from tests.support.converted import body_of, root_of
from thinfs.store.layout import MAX_OBJECT_BYTES, metadata_path, raw_digest, root_path
from thinfs.store.records import RootRecord, parse_record

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.reader import CatalogReader
    from thinfs.store.profiles import Profile, Touched

LEVEL: Final = 3
"""The converter's own default, so that packing well is no merit of compressing hard."""


def touched_bytes(repository: Path, profile: Profile) -> int:
    """Compressed size of all ranges in a profile, in its order, in frames as large as objects are.

    Args:
        repository: that the image was converted into.
        profile: of that image.
    """
    file = repository / root_path(raw_digest(profile.chain_id))
    record = parse_record(file.read_bytes(), RootRecord, str(file))
    with root_of(repository, record.catalog.digest) as root:
        parts = [_part(repository, root, each) for each in profile.touched]
    if record.metadata is not None and profile.metadata == record.metadata.digest:
        parts.append(_metadata(repository, profile))
    return _compressed(b"".join(parts))


def _part(repository: Path, root: CatalogReader, touched: Touched) -> bytes:
    number = root.content_id(bytes.fromhex(touched.content))
    assert number is not None, f"{touched.path} is not in the image"
    body = body_of(repository, root.content(number))
    ranges = touched.ranges or ((0, len(body)),)
    return b"".join(body[offset : offset + length] for offset, length in ranges)


def _metadata(repository: Path, profile: Profile) -> bytes:
    frame = (repository / metadata_path(raw_digest(profile.metadata))).read_bytes()
    image = zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    return b"".join(image[offset : offset + length] for offset, length in profile.metadata_ranges)


def _compressed(data: bytes) -> int:
    compressor = zstandard.ZstdCompressor(LEVEL)
    starts = range(0, len(data), MAX_OBJECT_BYTES)
    return sum(len(compressor.compress(data[at : at + MAX_OBJECT_BYTES])) for at in starts)
