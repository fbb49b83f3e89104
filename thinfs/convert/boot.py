"""Boot records: made when an image is converted, or when a start of it has been recorded."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from catalog.errors import CatalogError
from catalog.reader import CatalogReader
from thinfs.convert.bodies import Bodies
from thinfs.convert.bootobjects import Listing, store_bundles, store_pieces
from thinfs.convert.bundles import bundles, slices, spliced
from thinfs.convert.cutting import HOT_OBJECT_BYTES, packed, piece_bytes
from thinfs.convert.hot import cold_runs, hot_runs
from thinfs.convert.objects import ObjectWriter
from thinfs.convert.touched import find_touched
from thinfs.errors import FormatError
from thinfs.store.boot import BOOT_VERSION, BootContent, BootExtent, BootRecord
from thinfs.store.layout import MAX_OBJECT_BYTES, raw_digest
from thinfs.store.local import METADATA_LEVEL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from catalog.model import Content, Extent
    from thinfs.convert.layer import Workshop
    from thinfs.convert.runs import Run
    from thinfs.convert.touched import Touch
    from thinfs.store.profiles import Profile
    from thinfs.store.records import PublishedFile

log = logging.getLogger(__name__)

BOOT_LEVEL: Final = 18
"""zstd level of what a start fetches. Written once, read at every start: 13 to 15 % smaller than
at level 3 and 9 % than at level 9, for 0.3 s of one processor a MB; unpacked at 630 to 790 MB/s,
as the others are."""


@dataclass(frozen=True, slots=True)
class RootFiles:
    """A root that a boot record is to be made for.

    Attributes:
        catalog: its SQLite file.
        metadata: its metadata image as published.
        image: the file of that, uncompressed.
    """

    catalog: Path
    metadata: PublishedFile
    image: Path


def publish_boot(root: RootFiles, profile: Profile | None, workshop: Workshop) -> PublishedFile:
    """Store the objects that a start needs, and publish the boot record that names them.

    Without a profile these are the pieces of the metadata image. With one, the pieces that a
    start reads come first, then the contents that it touches, in boot bundles; both are read
    from what the repository holds.

    Args:
        root: as converted.
        profile: what a start touches, of this image or one like it.
        workshop: where the work is done.

    Raises:
        FormatError: the root's files contradict each other.
        MissingError: the repository lacks an object.
        IntegrityError: an object in it is damaged.
        StoreError: the disk refused.
    """
    try:
        return workshop.repository.publish_boot(_record(root, profile, workshop), workshop.work)
    except CatalogError as error:
        raise FormatError(f"the root's files are damaged: {error}") from error


def _record(root: RootFiles, profile: Profile | None, workshop: Workshop) -> BootRecord:
    objects = Listing()
    start = _Start()
    if profile is not None:
        with CatalogReader.open(root.catalog) as catalog, _writer(workshop, BOOT_LEVEL) as writer:
            bodies = Bodies(workshop.repository.path, catalog)
            touches = _find(profile, catalog)
            hot = hot_runs(root.metadata, root.image, profile, touches)
            metadata = store_pieces(root.image, packed(hot, HOT_OBJECT_BYTES), writer, objects)
            contents, order = _store_touched(touches, bodies, writer, objects)
            start = _Start(hot, metadata, contents, order)
    size = root.metadata.size
    pieces = packed(cold_runs(start.hot, size), piece_bytes(size, MAX_OBJECT_BYTES))
    with _writer(workshop, METADATA_LEVEL) as writer:
        cold = store_pieces(root.image, pieces, writer, objects)
    extents = sorted((*start.metadata, *cold), key=lambda extent: extent.offset)
    return BootRecord(
        version=BOOT_VERSION,
        metadata=BootContent(raw_digest(root.metadata.digest).hex(), size, tuple(extents)),
        objects=objects.listed,
        contents=start.contents,
        order=start.order,
    )


@dataclass(frozen=True, slots=True)
class _Start:
    """What the boot record says of a start; nothing without a profile.

    Attributes:
        hot: parts of the metadata image that come first.
        metadata: where these are.
        contents: what is touched.
        order: objects to fetch.
    """

    hot: Sequence[Run] = ()
    metadata: tuple[BootExtent, ...] = ()
    contents: tuple[BootContent, ...] = ()
    order: tuple[int, ...] = ()


def _store_touched(
    touches: Sequence[Touch], bodies: Bodies, writer: ObjectWriter, objects: Listing
) -> tuple[tuple[BootContent, ...], tuple[int, ...]]:
    """Store the bundles: what lies in them, and the indexes of all that is to be fetched."""
    placed = store_bundles(bundles(slices(touches)), bodies, writer, objects)
    order = objects.indexes  # what is listed from here on lies where it was, and can wait
    contents = tuple(
        _listed(each.content, placed.get(each.content.digest, ()), bodies, objects)
        for each in touches
    )
    return contents, order


def _find(profile: Profile, catalog: CatalogReader) -> Sequence[Touch]:
    touches = find_touched(profile, catalog)
    if profile.touched and not touches.found:
        log.warning("nothing of the boot profile of %s is in this image", profile.origin)
    log.info(
        "boot profile of %s: %d contents, of which %d have changed; %d more are gone",
        profile.origin,
        len(touches.found),
        touches.changed,
        touches.gone,
    )
    return touches.found


def _listed(
    content: Content, placed: Sequence[Extent], bodies: Bodies, objects: Listing
) -> BootContent:
    """A content as the boot record says where it is."""
    extents = tuple(
        BootExtent(each.offset, each.length, _number(each, bodies, objects), each.object_offset)
        for each in spliced(content, placed)
    )
    return BootContent(content.digest.hex(), content.size, extents)


def _number(extent: Extent, bodies: Bodies, objects: Listing) -> int:
    known = objects.find(extent.object)
    return objects.number(bodies.ref(extent.object)) if known is None else known


def _writer(workshop: Workshop, level: int) -> ObjectWriter:
    return ObjectWriter(workshop.repository, workshop.work, threads=workshop.threads, level=level)
