"""The boot record of a root: what a start needs, and where it is, without the catalog.

A node that has only the recipe fetches this one small file, and can then at once, all in
parallel: mount the root (the metadata image is read block by block), fetch what containers of
this image touch first, and serve it. The catalog, which knows everything else, comes meanwhile.

Published as one zstd frame of JSON, named by the JSON's SHA-256, which the recipe names. Every
image with a metadata image has one; without a boot profile it holds ``metadata`` alone.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from thinfs.errors import FormatError
from thinfs.store.layout import MAX_METADATA_BYTES, MAX_OBJECT_BYTES

BOOT_VERSION = 1
MAX_BOOT_BYTES = 64 << 20
"""Largest uncompressed boot record a reader accepts."""

HexDigest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(gt=0)]


class BootObject(msgspec.Struct, frozen=True, array_like=True):
    """An object, as ``catalog.model.ObjectRef``.

    Attributes:
        digest: of the uncompressed bytes, bare hex.
        size: uncompressed bytes.
        stored_size: bytes of its zstd frame.
    """

    digest: HexDigest
    size: Annotated[int, msgspec.Meta(gt=0, le=MAX_OBJECT_BYTES)]
    stored_size: Positive


class BootExtent(msgspec.Struct, frozen=True, array_like=True):
    """One run of a content, as ``catalog.model.Extent``.

    Attributes:
        offset: first byte in the content.
        length: bytes.
        object: index in :attr:`BootRecord.objects`.
        object_offset: first byte inside the uncompressed object.
    """

    offset: Count
    length: Positive
    object: Count
    object_offset: Count


class BootContent(msgspec.Struct, frozen=True, array_like=True):
    """One content with all of its extents, also of those parts that a start does not need.

    Attributes:
        digest: of the whole content, bare hex.
        size: bytes, at least 1.
        extents: ascending by offset, without overlap; what none covers is zero.
    """

    digest: HexDigest
    size: Positive
    extents: tuple[BootExtent, ...]


class BootRecord(msgspec.Struct, frozen=True):
    """A whole boot record.

    Attributes:
        version: ``1``.
        metadata: the metadata image as a content: digest and size are those in the recipe.
        objects: every object that is named here.
        contents: what containers touched until they were ready, first touched first; none twice.
            Their extents are another way to the same bytes than those in the catalog: what was
            touched lies in boot bundles, the rest where the catalog has it. Neither record nor
            catalog is rewritten for the other.
        order: objects that a start needs, indexes into ``objects``, in the order in which they
            are to be fetched: those with the metadata blocks of a start first. Without a boot
            profile: empty.
    """

    version: int
    metadata: BootContent
    objects: tuple[BootObject, ...]
    contents: tuple[BootContent, ...] = ()
    order: tuple[Count, ...] = ()


def parse_boot(data: bytes, where: str) -> BootRecord:
    """Read a boot record whose digest has been verified.

    Raises:
        FormatError: malformed, or it contradicts itself; the message names ``where``.
    """
    if len(data) > MAX_BOOT_BYTES:
        raise FormatError(f"{where}: {len(data)} bytes, more than {MAX_BOOT_BYTES}")
    try:
        record = msgspec.json.decode(data, type=BootRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{where} is not a boot record: {error}") from error
    if record.version != BOOT_VERSION:
        raise FormatError(f"{where} has version {record.version}; this thinfs reads {BOOT_VERSION}")
    problem = _problem(record)
    if problem:
        raise FormatError(f"{where}: {problem}")
    return record


def render_boot(record: BootRecord) -> bytes:
    """Write a boot record: the same bytes for the same values."""
    return msgspec.json.encode(record)


def _problem(record: BootRecord) -> str:
    if record.metadata.size > MAX_METADATA_BYTES:
        return f"a metadata image of {record.metadata.size} bytes"
    if any(index >= len(record.objects) for index in record.order):
        return "its order names an object that it does not list"
    for content in (record.metadata, *record.contents):
        end = 0
        for extent in content.extents:
            if extent.object >= len(record.objects):
                return f"content {content.digest} lies in an object that is not listed"
            inside = extent.object_offset + extent.length
            if extent.offset < end or inside > record.objects[extent.object].size:
                return f"content {content.digest} has extents that cannot be"
            end = extent.offset + extent.length
        if end > content.size:
            return f"content {content.digest} has extents behind its end"
    return ""
