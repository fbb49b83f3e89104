"""Roots with boot records, made by hand, and a web server that holds parts of them back."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import zstandard
from msgspec.structs import replace as with_fields

from catalog.erofs import render
from catalog.reader import CatalogReader
from thinfs.oci.recipe import BlobRef
from thinfs.roots.metadata import SMALL_BYTES
from thinfs.store.boot import (
    BOOT_VERSION,
    BootContent,
    BootExtent,
    BootObject,
    BootRecord,
    parse_boot,
)
from thinfs.store.layout import boot_path, catalog_path, object_path, raw_digest
from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.support.repositories import MadeRoot
    from thinfs.store.records import PublishedFile

PIECE_BYTES = 16 << 10


class _Objects:
    """Objects of a boot record, written to the repository as they are made."""

    def __init__(self, local: LocalRepository, work: Path) -> None:
        self._local = local
        self._work = work
        self.listed: list[BootObject] = []

    def add(self, data: bytes) -> int:
        digest = hashlib.sha256(data).digest()
        stored, _ = self._local.put_object(digest, zstandard.compress(data, 1), self._work)
        self.listed.append(BootObject(digest.hex(), len(data), stored))
        return len(self.listed) - 1


def with_boot(
    repository: Path,
    made: MadeRoot,
    touched: Sequence[bytes] = (),
    *,
    in_pieces: bool = True,
    hot_pieces: int = 0,
    piece_bytes: int = PIECE_BYTES,
) -> MadeRoot:
    """Publish a root's metadata image and a boot record, and name both in its recipe.

    Args:
        repository: where the root is.
        made: the root.
        touched: bodies of the files that its start touches, put into one object.
        in_pieces: whether the metadata image is to be read in pieces, however small it is.
        hot_pieces: how many of its first pieces a start needs.
        piece_bytes: bytes of a piece.
    """
    assert made.recipe.thinfs is not None
    root = made.recipe.thinfs.root
    local = LocalRepository.open_or_create(repository)
    with local.converting() as work:
        image = _image(repository, raw_digest(root.catalog.digest), work)
        metadata = _named(local.publish_metadata(image, work))
        objects = _Objects(local, work)
        whole = image.read_bytes()
        pieces = [whole[at : at + piece_bytes] for at in range(0, len(whole), piece_bytes)]
        record = _record(pieces, touched, objects, hot_pieces)
        boot = _named(local.publish_boot(record, work))
    if in_pieces:
        metadata = with_fields(metadata, stored_size=SMALL_BYTES + 1)
    extension = with_fields(
        made.recipe.thinfs, root=with_fields(root, metadata=metadata, boot=boot)
    )
    return replace(made, recipe=with_fields(made.recipe, thinfs=extension))


def _image(repository: Path, catalog: bytes, work: Path) -> Path:
    packed = (repository / catalog_path(catalog)).read_bytes()
    (work / "catalog").write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(packed))
    with CatalogReader.open(work / "catalog") as reader:
        render(reader, work / "image")
    return work / "image"


def _record(
    pieces: Sequence[bytes], touched: Sequence[bytes], objects: _Objects, hot_pieces: int
) -> BootRecord:
    extents, at = [], 0
    for piece in pieces:
        extents.append(BootExtent(at, len(piece), objects.add(piece), 0))
        at += len(piece)
    digest = hashlib.sha256(b"".join(pieces)).hexdigest()
    metadata = BootContent(digest, at, tuple(extents))
    order = list(range(hot_pieces))
    contents: list[BootContent] = []
    if touched:
        bundle = objects.add(b"".join(touched))
        order.append(bundle)
        offset = 0
        for body in touched:
            extent = BootExtent(0, len(body), bundle, offset)
            contents.append(BootContent(hashlib.sha256(body).hexdigest(), len(body), (extent,)))
            offset += len(body)
    return BootRecord(BOOT_VERSION, metadata, tuple(objects.listed), tuple(contents), tuple(order))


def _named(file: PublishedFile) -> BlobRef:
    return BlobRef(digest=file.digest, size=file.size, stored_size=file.stored_size)


class HeldFiles(dict[str, bytes]):
    """A repository's files for :class:`tests.support.faulty_http.FaultyServer`.

    What is held back is answered when it is let go.

    Attributes:
        asked: paths in the order in which they were asked for.
    """

    def __init__(self, repository: Path) -> None:
        super().__init__(
            {
                str(file.relative_to(repository)): file.read_bytes()
                for file in repository.rglob("*")
                if file.is_file()
            }
        )
        self._held: set[str] = set()
        self._free = threading.Event()
        self._free.set()
        self.asked: list[str] = []

    def hold(self, paths: Iterable[str]) -> None:
        """Do not answer these from now on."""
        self._held = set(paths)
        self._free.clear()

    def below(self, folder: str) -> list[str]:
        """Paths below a folder."""
        return [path for path in self if path.startswith(f"{folder}/")]

    def let_go(self) -> None:
        """Answer everything."""
        self._held = set()
        self._free.set()

    def get(self, path: str, default: bytes | None = None) -> bytes | None:  # type: ignore[override] # a narrower one will do
        self.asked.append(path)
        if path in self._held:
            self._free.wait(60)
        return super().get(path, default)


def metadata_pieces(repository: Path, made: MadeRoot) -> list[str]:
    """Paths of the objects that a root's metadata image lies in, in order."""
    assert made.recipe.thinfs is not None
    boot = made.recipe.thinfs.root.boot
    assert boot is not None
    packed = (repository / boot_path(raw_digest(boot.digest))).read_bytes()
    record = parse_boot(zstandard.decompress(packed), "boot record")
    return [
        object_path(bytes.fromhex(record.objects[extent.object].digest))
        for extent in record.metadata.extents
    ]
