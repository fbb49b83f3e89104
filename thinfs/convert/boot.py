"""Boot records: made when an image is converted, or when a start of it has been recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from thinfs.convert.cutting import Run, packed, piece_bytes
from thinfs.convert.objects import ObjectWriter
from thinfs.errors import StoreError
from thinfs.store.boot import BOOT_VERSION, BootContent, BootExtent, BootObject, BootRecord
from thinfs.store.layout import MAX_OBJECT_BYTES, raw_digest
from thinfs.store.local import METADATA_LEVEL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future
    from pathlib import Path

    from catalog.model import ObjectRef
    from thinfs.convert.layer import Workshop
    from thinfs.convert.objects import StoredObject
    from thinfs.store.records import PublishedFile


def publish_boot(metadata: PublishedFile, image: Path, workshop: Workshop) -> PublishedFile:
    """Cut a metadata image into objects and publish a boot record that names them.

    Args:
        metadata: the image as published.
        image: its file, uncompressed.
        workshop: where the work is done.

    Raises:
        StoreError: the disk refused.
    """
    groups = packed([Run(0, metadata.size)], piece_bytes(metadata.size, MAX_OBJECT_BYTES))
    objects = Listing()
    with ObjectWriter(
        workshop.repository, workshop.work, threads=workshop.threads, level=METADATA_LEVEL
    ) as writer:
        extents = _stored(image, groups, writer, objects)
    record = BootRecord(
        version=BOOT_VERSION,
        metadata=BootContent(raw_digest(metadata.digest).hex(), metadata.size, extents),
        objects=objects.listed(),
    )
    return workshop.repository.publish_boot(record, workshop.work)


class Listing:
    """The objects of a boot record, each listed once."""

    def __init__(self) -> None:
        self._numbers: dict[ObjectRef, int] = {}

    def number(self, ref: ObjectRef) -> int:
        """The index of an object, which is listed from now on."""
        return self._numbers.setdefault(ref, len(self._numbers))

    def listed(self) -> tuple[BootObject, ...]:
        """All of them."""
        return tuple(BootObject(o.digest.hex(), o.size, o.stored_size) for o in self._numbers)


def _stored(
    image: Path,
    groups: Iterable[tuple[Run, ...]],
    writer: ObjectWriter,
    objects: Listing,
) -> tuple[BootExtent, ...]:
    """Write an object for each group of runs of a file; gives where the runs are, ascending."""
    under_way: list[tuple[tuple[Run, ...], Future[StoredObject]]]
    try:
        with image.open("rb") as file:
            under_way = [
                (group, writer.store([_read(file, run) for run in group])) for group in groups
            ]
    except OSError as error:
        raise StoreError(f"{image}: {error.strerror}") from error
    extents = []
    for group, future in under_way:
        number, offset = objects.number(future.result().ref), 0
        for run in group:
            extents.append(BootExtent(run.offset, run.length, number, offset))
            offset += run.length
    return tuple(sorted(extents, key=lambda extent: extent.offset))


def _read(file: BinaryIO, run: Run) -> bytes:
    file.seek(run.offset)
    return file.read(run.length)
