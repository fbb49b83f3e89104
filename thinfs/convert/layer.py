"""One layer: from its blob to objects, a catalog and a layer record, in one pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from catalog.errors import CatalogError, InvalidEntry
from catalog.model import Content, ObjectRef, TreeKind
from catalog.writer import CatalogWriter
from thinfs.convert.objects import ObjectWriter
from thinfs.convert.pack import PackCounts, Packed, Packer
from thinfs.convert.pipe import LayerPipe
from thinfs.convert.tarstream import members, show
from thinfs.errors import FormatError, StoreError
from thinfs.oci.digest import hex_of
from thinfs.store.layout import raw_digest
from thinfs.store.records import LayerRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from catalog.model import Entry
    from thinfs.oci.model import Layer
    from thinfs.store.index import ContentIndex
    from thinfs.store.local import LocalRepository

log = logging.getLogger(__name__)

INDEX_BATCH = 2048
"""Contents remembered in one transaction: short, so that a second converter can get in."""


class LayerProgress(Protocol):
    """Hears how far a layer is."""

    def advance(self, digest: str, compressed_bytes: int) -> None:
        """So many bytes of the blob have arrived, altogether."""
        ...


@dataclass(frozen=True, slots=True)
class Workshop:
    """What converting needs besides a layer.

    Attributes:
        repository: where everything goes.
        index: what it has already.
        work: a directory for temporaries, on the repository's file system.
        threads: how many compress at once.
        level: zstd level of objects.
    """

    repository: LocalRepository
    index: ContentIndex
    work: Path
    threads: int
    level: int


@dataclass(frozen=True, slots=True)
class ConvertedLayer:
    """A layer that is in the repository now.

    Attributes:
        record: as published.
        catalog: its SQLite file among the temporaries.
        counts: what was packed.
    """

    record: LayerRecord
    catalog: Path
    counts: PackCounts


def convert_layer(
    layer: Layer, blocks: Iterable[bytes], workshop: Workshop, progress: LayerProgress
) -> ConvertedLayer:
    """Convert one layer and publish its catalog and record.

    Nothing is published unless the blob's digest, its size and the tar's diffID are those that
    the image states. Objects that were written before an error stay: they are named by what
    they are, and the next try finds them.

    Args:
        layer: what the image says of it.
        blocks: the blob, in order.
        workshop: where the work is done.
        progress: hears of every megabyte or so.

    Raises:
        FormatError: the tar stream holds what no layer may hold.
        IntegrityError: the bytes are not those of the image.
        TransportError: the blob broke off.
        StoreError: the disk refused.
    """
    digest = layer.descriptor.digest
    what = f"layer {digest[:19]}"
    target = workshop.work / f"layer-{hex_of(digest)}.sqlite"
    try:
        with (
            LayerPipe(blocks, what) as pipe,
            ObjectWriter(
                workshop.repository, workshop.work, threads=workshop.threads, level=workshop.level
            ) as writer,
            CatalogWriter(target, TreeKind.LAYER) as catalog,
        ):
            packer = Packer(workshop.repository, workshop.index, writer)
            shelf = _Shelf(catalog, workshop.index, packer)
            for entry in _packed_entries(pipe, packer, shelf):
                catalog.add(entry)
                progress.advance(digest, pipe.compressed_bytes)
            for packed in packer.finish():
                shelf.put(packed)
            shelf.flush()
            tar_size = pipe.verify(digest, layer.diff_id, layer.descriptor.size)
            progress.advance(digest, pipe.compressed_bytes)
            catalog.finish()
            if catalog.dropped_xattrs:
                log.info("%s: %d overlay xattrs left out", what, catalog.dropped_xattrs)
    except (InvalidEntry, FormatError) as error:
        raise FormatError(f"{what}: {error}") from error
    except CatalogError as error:
        raise StoreError(f"{what}: {error}") from error
    ref = workshop.repository.publish_catalog(target, workshop.work)
    record = LayerRecord(
        digest=digest,
        diff_id=layer.diff_id,
        size=layer.descriptor.size,
        tar_size=tar_size,
        catalog=ref,
    )
    workshop.repository.sync()  # what the record promises is on the disk before the record is
    workshop.repository.put_layer_record(raw_digest(digest), record)
    return ConvertedLayer(record, target, packer.counts)


class _Shelf:
    """Passes settled contents on: to the catalog at once, to the index in batches."""

    def __init__(self, catalog: CatalogWriter, index: ContentIndex, packer: Packer) -> None:
        self._catalog = catalog
        self._index = index
        self._packer = packer
        self._objects: list[ObjectRef] = []
        self._contents: list[Content] = []

    def put(self, packed: Packed) -> None:
        for ref in packed.objects:
            self._catalog.add_object(ref)
        for content in packed.contents:
            self._catalog.add_content(content)
        if packed.indexed:
            return
        self._objects.extend(packed.objects)
        self._contents.extend(packed.contents)
        if len(self._contents) >= INDEX_BATCH:
            self.flush()

    def flush(self) -> None:
        self._index.add(self._objects, self._contents)
        self._packer.forget(self._contents)
        self._objects, self._contents = [], []


def _packed_entries(pipe: LayerPipe, packer: Packer, shelf: _Shelf) -> Iterator[Entry]:
    """The layer's entries, the bodies of their files packed on the way."""
    for member in members(pipe):
        if not member.size:
            yield member.entry()
            continue
        try:
            content = packer.add(member.body, member.size, member.path.rpartition(b"/")[0])
        except FormatError as error:
            raise FormatError(f"{show(member.path)}: {error}") from error
        for packed in packer.settled():
            shelf.put(packed)
        yield member.entry(content)
