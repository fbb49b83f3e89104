"""The root of an image: its layers' trees merged into one, once for each chain of layers."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from catalog.erofs import CannotRender, render
from catalog.errors import CatalogError, DamagedCatalog, InvalidEntry
from catalog.merge import merge
from catalog.reader import CatalogReader
from thinfs.convert.boot import RootFiles, publish_boot
from thinfs.errors import FormatError, StoreError
from thinfs.oci.digest import hex_of
from thinfs.store.layout import raw_digest
from thinfs.store.profiles import profile_digest
from thinfs.store.records import RootRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thinfs.convert.layer import Workshop
    from thinfs.store.profiles import Profile

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BootWish:
    """What a root's boot record is to be made with.

    Attributes:
        profile: a boot profile; ``None`` for none.
        keep: a boot record that is there already stays, whatever it was made with.
    """

    profile: Profile | None = None
    keep: bool = False

    @property
    def digest(self) -> str | None:
        """Names the profile in a root's record."""
        return profile_digest(self.profile) if self.profile else None

    def is_fulfilled(self, record: RootRecord) -> bool:
        """Whether a root has the boot record that it is to have."""
        if record.metadata is None:
            return True
        return record.boot is not None and (self.keep or record.profile == self.digest)


KEEP: Final = BootWish(keep=True)
"""Any boot record will do; where there is none, one is made without a profile."""


def convert_root(
    chain_id: str, catalogs: Sequence[Path], wish: BootWish, workshop: Workshop
) -> RootRecord:
    """Merge layers and publish the root's catalog, metadata image, boot record and record.

    Args:
        chain_id: of all layers.
        catalogs: the layers' SQLite files, base first.
        wish: what the boot record is to be made with.
        workshop: where the work is done.

    Raises:
        FormatError: the layers do not fit on each other (a hard link to what is nowhere).
        ThinfsError: as :func:`thinfs.convert.boot.publish_boot`.
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
    )
    if image is not None:
        record = _booting(record, RootFiles(target, image, metadata), wish, workshop)
    _put(record, workshop)
    log.info("root %s: %d inodes, %d names", name[:12], summary.inodes, summary.names)
    return record


def with_boot(record: RootRecord, wish: BootWish, workshop: Workshop) -> RootRecord | None:
    """Give a root of the repository the boot record that it is to have.

    The root itself stays what it was, and with it its identity on nodes: only the boot record
    and the root's record are made anew, and only if need be.

    Returns:
        The root's record, which is published; ``None`` when the repository does not hold the
        root's files as they were.

    Raises:
        ThinfsError: as :func:`thinfs.convert.boot.publish_boot`.
    """
    if record.metadata is None or wish.is_fulfilled(record):
        return record
    name, repository = hex_of(record.chain_id), workshop.repository
    files = RootFiles(
        catalog=workshop.work / f"root-{name}.sqlite",
        metadata=record.metadata,
        image=workshop.work / f"root-{name}.erofs",
    )
    if not (
        repository.unpack_metadata(record.metadata, files.image)
        and repository.unpack_catalog(record.catalog, files.catalog)
    ):
        return None
    record = _booting(record, files, wish, workshop)
    _put(record, workshop)
    return record


def _booting(
    record: RootRecord, files: RootFiles, wish: BootWish, workshop: Workshop
) -> RootRecord:
    boot = publish_boot(files, wish.profile, workshop)
    return msgspec.structs.replace(record, boot=boot, profile=wish.digest)


def _put(record: RootRecord, workshop: Workshop) -> None:
    workshop.repository.sync()  # what the record promises is on the disk before the record is
    workshop.repository.put_root_record(raw_digest(record.chain_id), record)


def _rendered(root: CatalogReader, target: Path) -> bool:
    """Render the root's metadata image; some odd trees do not fit into one."""
    try:
        render(root, target)
    except CannotRender as error:
        log.info("no metadata image, nodes serve this root by FUSE alone: %s", error)
        return False
    return True
