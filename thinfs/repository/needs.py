"""What images need: the closure of everything that must stay in a repository.

An image needs what its recipe names (catalog, metadata image, boot record), what the root
record of its chain names besides, the records and catalogs of its layers, and every object that
one of these catalogs or boot records names. So a record that stays never promises what has gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from catalog.errors import CatalogError
from catalog.reader import CatalogReader
from thinfs.errors import FormatError, IntegrityError, MissingError
from thinfs.repository.files import read_small, unpack
from thinfs.repository.images import blob_path
from thinfs.store.boot import MAX_BOOT_BYTES, parse_boot
from thinfs.store.layout import (
    MAX_CATALOG_BYTES,
    boot_path,
    catalog_path,
    layer_path,
    metadata_path,
    profile_path,
    raw_digest,
    root_path,
)
from thinfs.store.records import MAX_RECORD_BYTES, LayerRecord, RootRecord, parse_record

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TypeVar

    from thinfs.oci.recipe import BlobRef, Recipe
    from thinfs.repository.images import StoredImage
    from thinfs.store.records import PublishedFile

    T = TypeVar("T")

ADVICE: Final = "; thinfs check says what is damaged, --repair --from mends it"


class Needs:
    """Collects what is needed in one repository's directory, each thing read once.

    Memory: some 100 bytes for each object.

    Args:
        repository: the directory.
        work: where catalogs are unpacked; may be set anew between calls.

    Attributes:
        files: paths of everything needed but objects.
        objects: digests of needed objects.
    """

    def __init__(self, repository: Path, work: Path) -> None:
        self._repository = repository
        self.work = work
        self.files: set[str] = set()
        self.objects: set[bytes] = set()

    def add_image(self, image: StoredImage) -> None:
        """An image, for all its platforms.

        Raises:
            MissingError: something with further references is not there.
            IntegrityError: or is damaged.
            FormatError: or is of a version that this program does not know.
        """
        self.files.update(blob_path(descriptor.digest) for descriptor, _ in image.blobs)
        for recipe in image.recipes:
            self._recipe(recipe)

    def add_record(self, path: str) -> None:
        """A layer's or a root's record with all that it names; a damaged one names nothing.

        Raises:
            MissingError: something with further references is not there.
            IntegrityError: or is damaged.
        """
        folder = path.partition("/")[0]
        if folder == "layers":
            self._layer(path)
        elif folder == "roots":
            self._root(path)

    def _recipe(self, recipe: Recipe) -> None:
        for layer in recipe.layers:
            self._layer(layer_path(bytes.fromhex(layer.digest)))
        if recipe.thinfs is None:
            return
        root = recipe.thinfs.root
        chain_id = raw_digest(root.chain_id)
        self.files.add(profile_path(chain_id))
        self._root(root_path(chain_id))
        self._tree(root.catalog, root.metadata, root.boot)

    def _layer(self, path: str) -> None:
        self.files.add(path)
        record = self._record(path, LayerRecord)
        if record is not None:
            self._catalog(record.catalog)

    def _root(self, path: str) -> None:
        self.files.add(path)
        record = self._record(path, RootRecord)
        if record is not None:
            self._tree(record.catalog, record.metadata, record.boot)

    def _tree(
        self,
        catalog: BlobRef | PublishedFile,
        metadata: BlobRef | PublishedFile | None,
        boot: BlobRef | PublishedFile | None,
    ) -> None:
        self._catalog(catalog)
        if metadata is not None:
            self.files.add(metadata_path(raw_digest(metadata.digest)))
        if boot is not None:
            self._boot(boot)

    def _catalog(self, ref: BlobRef | PublishedFile) -> None:
        path = catalog_path(raw_digest(ref.digest))
        if path in self.files:
            return
        target = self.work / "catalog.sqlite"
        self._unpacked(path, ref, MAX_CATALOG_BYTES, target)
        try:
            with CatalogReader.open(target) as catalog:
                self.objects.update(each.digest for each in catalog.objects())
        except CatalogError as error:
            raise IntegrityError(f"{path}: {error}{ADVICE}") from error
        self.files.add(path)

    def _boot(self, ref: BlobRef | PublishedFile) -> None:
        path = boot_path(raw_digest(ref.digest))
        if path in self.files:
            return
        target = self.work / "boot.json"
        self._unpacked(path, ref, MAX_BOOT_BYTES, target)
        boot = parse_boot(target.read_bytes(), path)
        self.objects.update(bytes.fromhex(each.digest) for each in boot.objects)
        self.files.add(path)

    def _unpacked(
        self, path: str, ref: BlobRef | PublishedFile, max_bytes: int, target: Path
    ) -> None:
        if ref.size > max_bytes:
            raise FormatError(f"{path} is said to have {ref.size} bytes")
        try:
            with target.open("wb") as file:
                unpack(self._repository / path, ref.size, raw_digest(ref.digest), file)
        except (MissingError, IntegrityError) as error:
            raise type(error)(f"{error}{ADVICE}") from error

    def _record(self, path: str, kind: type[T]) -> T | None:
        """A record, ``None`` when it is not there or damaged: converters pass over it too."""
        try:
            return parse_record(read_small(self._repository / path, MAX_RECORD_BYTES), kind, path)
        except (MissingError, FormatError):
            return None
