"""The root of an image: its layers' trees merged into one, once for each chain of layers."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from catalog.erofs import CannotRender, render
from catalog.errors import CatalogError, DamagedCatalog, InvalidEntry
from catalog.merge import merge
from catalog.reader import CatalogReader
from thinfs.convert.boot import publish_boot
from thinfs.errors import FormatError, StoreError
from thinfs.oci.digest import hex_of
from thinfs.store.layout import raw_digest
from thinfs.store.records import RootRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thinfs.convert.layer import Workshop

log = logging.getLogger(__name__)


def convert_root(chain_id: str, catalogs: Sequence[Path], workshop: Workshop) -> RootRecord:
    """Merge layers and publish the root's catalog, metadata image, boot record and record.

    Args:
        chain_id: of all layers.
        catalogs: the layers' SQLite files, base first.
        workshop: where the work is done.

    Raises:
        FormatError: the layers do not fit on each other (a hard link to what is nowhere).
        StoreError: the disk refused.
    """
    name = hex_of(chain_id)
    target = workshop.work / f"root-{name}.sqlite"
    metadata = workshop.work / f"root-{name}.erofs"
    try:
        with ExitStack() as stack:
            readers = [CatalogReader.open(path) for path in catalogs]
            for reader in readers:
                stack.callback(reader.close)
            summary = merge(readers, target)
        root = CatalogReader.open(target)
        try:
            stored_bytes = sum(ref.stored_size for ref in root.objects())
            rendered = _rendered(root, metadata)
        finally:
            root.close()
    except (InvalidEntry, DamagedCatalog) as error:
        raise FormatError(f"the layers do not make a root: {error}") from error
    except CatalogError as error:
        raise StoreError(f"merging the layers: {error}") from error
    repository = workshop.repository
    image = repository.publish_metadata(metadata, workshop.work) if rendered else None
    record = RootRecord(
        chain_id=chain_id,
        catalog=repository.publish_catalog(target, workshop.work),
        metadata=image,
        content_bytes=summary.content_bytes,
        stored_bytes=stored_bytes,
        boot=publish_boot(image, metadata, workshop) if image else None,
    )
    repository.sync()
    repository.put_root_record(raw_digest(chain_id), record)
    log.info("root %s: %d inodes, %d names", name[:12], summary.inodes, summary.names)
    return record


def with_boot(record: RootRecord, workshop: Workshop) -> RootRecord | None:
    """Give a root that was converted before the boot record that it has not.

    Returns:
        The root's new record, which is published; ``None`` when the repository does not hold
        the root's metadata image as it was.

    Raises:
        StoreError: the disk refused.
    """
    if record.metadata is None or record.boot is not None:
        return record
    image = workshop.work / f"root-{hex_of(record.chain_id)}.erofs"
    if not workshop.repository.unpack_metadata(record.metadata, image):
        return None
    boot = publish_boot(record.metadata, image, workshop)
    record = msgspec.structs.replace(record, boot=boot)
    workshop.repository.sync()
    workshop.repository.put_root_record(raw_digest(record.chain_id), record)
    return record


def _rendered(root: CatalogReader, target: Path) -> bool:
    """Render the root's metadata image; some odd trees do not fit into one."""
    try:
        render(root, target)
    except CannotRender as error:
        log.info("no metadata image, nodes serve this root by FUSE alone: %s", error)
        return False
    return True
