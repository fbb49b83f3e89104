"""The objects of a boot record on their way into the repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from catalog.model import Extent
from thinfs.errors import StoreError
from thinfs.store.boot import BootExtent, BootObject

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from catalog.model import ObjectRef
    from thinfs.convert.bodies import Bodies
    from thinfs.convert.bundles import Slice
    from thinfs.convert.objects import ObjectWriter
    from thinfs.convert.runs import Run


class Listing:
    """The objects of a boot record, each listed once, in the order in which they were named."""

    def __init__(self) -> None:
        self._refs: dict[bytes, ObjectRef] = {}
        self._numbers: dict[bytes, int] = {}

    def number(self, ref: ObjectRef) -> int:
        """The index of an object, which is listed from now on."""
        self._refs.setdefault(ref.digest, ref)
        return self._numbers.setdefault(ref.digest, len(self._numbers))

    def find(self, digest: bytes) -> int | None:
        """The index of an object if it is listed."""
        return self._numbers.get(digest)

    @property
    def indexes(self) -> tuple[int, ...]:
        """The indexes of all that is listed now, in that order."""
        return tuple(range(len(self._numbers)))

    @property
    def listed(self) -> tuple[BootObject, ...]:
        """All of them."""
        return tuple(
            BootObject(ref.digest.hex(), ref.size, ref.stored_size) for ref in self._refs.values()
        )


def store_pieces(
    image: Path, groups: Iterable[tuple[Run, ...]], writer: ObjectWriter, objects: Listing
) -> tuple[BootExtent, ...]:
    """Store an object for each group of runs of a metadata image.

    Returns:
        Where the runs are now, in the order of the groups.

    Raises:
        StoreError: the disk refused.
    """
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
    return tuple(extents)


def store_bundles(
    groups: Iterable[tuple[Slice, ...]], bodies: Bodies, writer: ObjectWriter, objects: Listing
) -> dict[bytes, list[Extent]]:
    """Store boot bundles.

    Returns:
        Where the slices are now: extents by the content's digest, ascending.

    Raises:
        ThinfsError: as :meth:`thinfs.convert.bodies.Bodies.read`, and if the disk refused.
    """
    under_way = [
        (group, writer.store([bodies.read(each.content, each.run) for each in group]))
        for group in groups
    ]
    placed: dict[bytes, list[Extent]] = {}
    for group, future in under_way:
        ref, offset = future.result().ref, 0
        objects.number(ref)
        for each in group:
            extent = Extent(each.run.offset, each.run.length, ref.digest, offset)
            placed.setdefault(each.content.digest, []).append(extent)
            offset += each.run.length
    for extents in placed.values():
        extents.sort(key=lambda extent: extent.offset)
    return placed


def _read(file: BinaryIO, run: Run) -> bytes:
    file.seek(run.offset)
    return file.read(run.length)
