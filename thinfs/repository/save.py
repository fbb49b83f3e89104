"""Images and all that they need, as one stream; the same bytes for the same images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Protocol

from catalog.model import ObjectRef
from thinfs.errors import FormatError, MissingError, TransportError, UsageError
from thinfs.fetch.verify import stored_bound
from thinfs.oci.digest import hex_of
from thinfs.oci.layout import (
    BLOBS,
    IMAGE_NAME,
    INDEX_FILE,
    LAYOUT_FILE,
    LAYOUT_VERSION,
    REF_NAME,
    render_index,
    tagged,
)
from thinfs.repository import accept
from thinfs.repository.bundle import (
    BUNDLE_FILE,
    BUNDLE_VERSION,
    Bundle,
    BundledImage,
    Part,
    render_bundle,
    start_objects,
)
from thinfs.repository.tar import write_end, write_file, write_member
from thinfs.store.boot import parse_boot
from thinfs.store.layout import (
    boot_path,
    catalog_path,
    metadata_path,
    object_path,
    profile_path,
    raw_digest,
)
from thinfs.store.profiles import MAX_PROFILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from thinfs.oci.recipe import BlobRef, Recipe, RecipeRoot
    from thinfs.repository.images import StoredImage
    from thinfs.repository.stock import Stock
    from thinfs.store.boot import BootRecord


class SaveProgress(Protocol):
    """Hears how far saving is."""

    def total(self, files: int, size: int) -> None:
        """So many files, with about so many bytes, are to be written."""
        ...

    def advance(self, files: int, size: int) -> None:
        """So many more were written."""
        ...


@dataclass(slots=True)
class _Cargo:
    """What goes into a bundle; each thing once, in the order of the first that needs it."""

    published: dict[str, BlobRef] = field(default_factory=dict)
    profiles: dict[str, None] = field(default_factory=dict)
    first: dict[bytes, ObjectRef] = field(default_factory=dict)
    others: dict[bytes, ObjectRef] = field(default_factory=dict)

    def objects(self) -> Iterable[ObjectRef]:
        """All objects: what starts need first."""
        yield from self.first.values()
        for digest in sorted(self.others.keys() - self.first.keys()):
            yield self.others[digest]

    def count(self, images: Sequence[StoredImage], part: Part) -> Bundle:
        """The bundle's first file."""
        sizes = [ref.stored_size for ref in self.published.values()]
        sizes += [ref.stored_size for ref in self.objects()]
        return Bundle(
            version=BUNDLE_VERSION,
            images=tuple(BundledImage(each.name, each.root.digest, part) for each in images),
            files=len(sizes) + len(self.profiles),
            bytes=sum(sizes),
        )


def save(
    images: Sequence[StoredImage],
    stock: Stock,
    part: Part,
    stream: IO[bytes],
    progress: SaveProgress,
) -> Bundle:
    """Write a bundle.

    Args:
        images: none twice.
        stock: gives what they need.
        part: ``all``, or what the ``profile`` of each needs for a start.
        stream: where to; need not be seekable.
        progress: hears how far it is.

    Raises:
        UsageError: ``profile`` is wanted and an image has none.
        ThinfsError: something that an image needs is nowhere, or damaged; what was written
            then is no bundle.
        OSError: the stream cannot be written.
    """
    cargo = _Cargo()
    for image in images:
        for recipe in image.recipes:
            _pack(recipe, image.name, part, stock, cargo)
    bundle = cargo.count(images, part)
    progress.total(bundle.files, bundle.bytes)
    write_member(stream, BUNDLE_FILE, render_bundle(bundle))
    _write_images(images, stream)
    for path, ref in cargo.published.items():
        test = partial(accept.frame, ref.size, raw_digest(ref.digest))
        _write(stream, path, stock.copy(path, stored_bound(ref.size), test), progress)
    for path in cargo.profiles:
        test = partial(accept.profile, path.rpartition("/")[2])
        _write(stream, path, stock.copy(path, MAX_PROFILE_BYTES, test), progress)
    for digest, frame in stock.objects(cargo.objects()):
        write_member(stream, object_path(digest), frame)
        progress.advance(1, len(frame))
    write_end(stream)
    stream.flush()
    return bundle


def _pack(recipe: Recipe, name: str, part: Part, stock: Stock, cargo: _Cargo) -> None:
    if recipe.thinfs is None:
        raise FormatError(f"{name} names layers only and no merged root: thinfs convert it again")
    root = recipe.thinfs.root
    boot = _boot(root, stock, cargo)
    if part == "profile" and (boot is None or not boot.order):
        raise UsageError(
            f"{name} has no boot profile: record one and convert it again, or save --all of it"
        )
    if root.metadata is not None:
        cargo.published[metadata_path(raw_digest(root.metadata.digest))] = root.metadata
    cargo.published[catalog_path(raw_digest(root.catalog.digest))] = root.catalog
    if boot is not None:
        _pack_boot(boot, part, cargo)
    if part == "all":
        with stock.catalog(root.catalog) as tree:
            cargo.others.update((each.digest, each) for each in tree.objects())
    _pack_profile(profile_path(raw_digest(root.chain_id)), stock, cargo)


def _boot(root: RecipeRoot, stock: Stock, cargo: _Cargo) -> BootRecord | None:
    if root.boot is None:
        return None
    path = boot_path(raw_digest(root.boot.digest))
    file = stock.unpacked(path, root.boot)
    boot = parse_boot(file.read_bytes(), path)
    file.unlink()
    cargo.published[path] = root.boot
    return boot


def _pack_boot(boot: BootRecord, part: Part, cargo: _Cargo) -> None:
    refs = [ObjectRef(bytes.fromhex(o.digest), o.size, o.stored_size) for o in boot.objects]
    for index in start_objects(boot):
        cargo.first.setdefault(refs[index].digest, refs[index])
    if part == "all":
        cargo.others.update((ref.digest, ref) for ref in refs)


def _pack_profile(path: str, stock: Stock, cargo: _Cargo) -> None:
    test = partial(accept.profile, path.rpartition("/")[2])
    try:
        stock.copy(path, MAX_PROFILE_BYTES, test).unlink()
    except (MissingError, TransportError):
        return  # advice: not every repository offers it
    cargo.profiles[path] = None


def _write_images(images: Sequence[StoredImage], stream: IO[bytes]) -> None:
    entries = [
        tagged(image.root, {REF_NAME: image.name, IMAGE_NAME: image.name}) for image in images
    ]
    write_member(stream, LAYOUT_FILE, LAYOUT_VERSION)
    write_member(stream, INDEX_FILE, render_index(entries))
    blobs = {descriptor.digest: data for image in images for descriptor, data in image.blobs}
    for digest, data in blobs.items():
        write_member(stream, f"{BLOBS}/{hex_of(digest)}", data)


def _write(stream: IO[bytes], path: str, file: Path, progress: SaveProgress) -> None:
    size = write_file(stream, path, file)
    file.unlink()
    progress.advance(1, size)
