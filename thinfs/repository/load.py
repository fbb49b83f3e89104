"""Putting the images of a bundle into a repository.

What is there already is passed over, what comes is verified before it has a name, and an image
gets its name when everything that it needs is there: a load that is killed at any moment leaves
nothing half, and the next one goes on from there.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import IO, TYPE_CHECKING, Protocol

from catalog.errors import CatalogError
from catalog.reader import CatalogReader
from thinfs.errors import FormatError, IntegrityError, MissingError, StoreError
from thinfs.fetch.verify import stored_bound
from thinfs.oci.digest import hex_of
from thinfs.oci.kept import record_image
from thinfs.oci.layout import INDEX_FILE, LAYOUT_FILE
from thinfs.oci.manifest import Index, parse_document
from thinfs.oci.model import MAX_DOCUMENT_BYTES, MAX_MANIFEST_BYTES, Descriptor
from thinfs.repository import accept
from thinfs.repository.bundle import (
    BLOB,
    BUNDLE_FILE,
    MAX_BUNDLE_BYTES,
    PROFILE,
    PUBLISHED,
    parse_bundle,
    start_objects,
)
from thinfs.repository.files import MAX_FRAME_CONTENT
from thinfs.repository.images import read_image
from thinfs.repository.tar import members
from thinfs.store.boot import parse_boot
from thinfs.store.layout import (
    MAX_STORED_OBJECT_BYTES,
    boot_path,
    catalog_path,
    metadata_path,
    object_path,
    raw_digest,
)
from thinfs.store.profiles import MAX_PROFILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thinfs.oci.recipe import BlobRef, Recipe
    from thinfs.repository.bundle import Bundle, BundledImage
    from thinfs.repository.images import StoredImage
    from thinfs.repository.tar import Member
    from thinfs.store.local import LocalRepository


class LoadProgress(Protocol):
    """Hears how far loading is."""

    def total(self, files: int, size: int) -> None:
        """So many files, with about so many bytes, are to come."""
        ...

    def advance(self, files: int, size: int) -> None:
        """So many more have come."""
        ...


class Loaded:
    """What loading a bundle did.

    Attributes:
        images: that have their names now.
        new_files: files that were not there before.
        new_bytes: what they take.
        present_files: files that were there already.
    """

    def __init__(self) -> None:
        self.images: list[StoredImage] = []
        self.new_files = 0
        self.new_bytes = 0
        self.present_files = 0


def load(
    repository: LocalRepository, stream: IO[bytes], now_s: int, progress: LoadProgress
) -> Loaded:
    """Load a bundle.

    Args:
        repository: where to.
        stream: the bundle; need not be seekable.
        now_s: seconds since 1970.
        progress: hears how far it is.

    Raises:
        FormatError: it is no bundle, or ends too early; what has arrived stays.
        IntegrityError: a file in it holds other bytes than its name says.
        StoreError: the disk refuses.
    """
    with repository.converting() as work:
        return _Loader(repository, work, progress).run(stream, now_s)


class _Loader:
    def __init__(self, repository: LocalRepository, work: Path, progress: LoadProgress) -> None:
        self._repository = repository
        self._work = work
        self._progress = progress
        self._blobs: dict[str, bytes] = {}
        self._held_bytes = 0
        self._index = b""
        self._done = Loaded()

    def run(self, stream: IO[bytes], now_s: int) -> Loaded:
        files = members(stream)
        bundle = self._beginning(files)
        self._progress.total(bundle.files, bundle.bytes)
        for member in files:
            self._take(member)
        self._repository.sync()
        complete = [self._complete(image) for image in bundle.images]
        for image in complete:
            record_image(self._repository.path, image, image.name, now_s)
        self._done.images = complete
        return self._done

    def _beginning(self, files: Iterator[Member]) -> Bundle:
        first = next(files, None)
        if first is None or first.name != BUNDLE_FILE:
            raise FormatError(f"no bundle of thinfs save: it does not begin with {BUNDLE_FILE}")
        return parse_bundle(first.read(MAX_BUNDLE_BYTES))

    def _take(self, member: Member) -> None:
        if member.name == LAYOUT_FILE:
            return
        if member.name == INDEX_FILE:
            self._index = member.read(MAX_MANIFEST_BYTES)
        elif found := BLOB.fullmatch(member.name):
            self._held_bytes += member.size
            if self._held_bytes > MAX_DOCUMENT_BYTES:
                raise FormatError("a bundle with too many bytes of manifests")
            self._blobs[found["name"]] = member.read(MAX_MANIFEST_BYTES << 1)
        elif (self._repository.path / member.name).is_file() and self._is_known(member.name):
            self._done.present_files += 1
            self._progress.advance(1, member.size)
        else:
            self._store(member)
            self._progress.advance(1, member.size)

    def _is_known(self, name: str) -> bool:
        """An empty file, which a power cut may leave, counts as not there."""
        known = PUBLISHED.fullmatch(name) or PROFILE.fullmatch(name)
        return bool(known) and (self._repository.path / name).stat().st_size > 0

    def _store(self, member: Member) -> None:
        if found := PUBLISHED.fullmatch(member.name):
            folder, digest = found["folder"], bytes.fromhex(found["name"])
            limit = MAX_STORED_OBJECT_BYTES
            if folder != "objects":
                limit = stored_bound(MAX_FRAME_CONTENT[folder])
            test = partial(accept.whole_frame, folder, digest)
            if folder == "objects":
                test = partial(accept.stored_object, None, digest)
        elif found := PROFILE.fullmatch(member.name):
            limit = MAX_PROFILE_BYTES
            test = partial(accept.profile, found["name"])
        else:
            raise FormatError(f"no bundle: {member.name[:200]!r} does not belong into one")
        if member.size > limit:
            raise FormatError(f"{member.name} has {member.size} bytes, more than {limit}")
        file = self._received(member)
        try:
            test(file)
        except (FormatError, IntegrityError) as error:
            raise IntegrityError(f"{member.name} in the bundle is damaged: {error}") from error
        self._repository.adopt(file, member.name)
        self._done.new_files += 1
        self._done.new_bytes += member.size

    def _received(self, member: Member) -> Path:
        file = self._work / f"in-{secrets.token_hex(4)}"
        try:
            with file.open("wb") as sink:
                for piece in member.pieces():
                    sink.write(piece)
        except OSError as error:
            raise StoreError(f"{file}: {error.strerror}") from error
        return file

    # -- is all there?

    def _complete(self, named: BundledImage) -> StoredImage:
        image = read_image(named.name, self._root(named), self._blob)
        for recipe in image.recipes:
            try:
                self._check(recipe, named)
            except MissingError as error:
                raise FormatError(f"the bundle does not hold all of {named.name}") from error
            except IntegrityError as error:
                raise IntegrityError(f"{error}; thinfs check --repair --from mends it") from error
        return image

    def _root(self, named: BundledImage) -> Descriptor:
        index = parse_document(self._index, "", INDEX_FILE)
        entries = index.manifests if isinstance(index, Index) else ()
        for entry in entries:
            if entry.digest == named.digest:
                return Descriptor(
                    entry.media_type, entry.digest, entry.size, platform=entry.platform
                )
        raise FormatError(f"the bundle's {INDEX_FILE} does not name {named.name}")

    def _blob(self, descriptor: Descriptor) -> bytes:
        return self._blobs.get(hex_of(descriptor.digest), b"")

    def _check(self, recipe: Recipe, named: BundledImage) -> None:
        if recipe.thinfs is None:
            raise FormatError("its recipe names no merged root")
        root = recipe.thinfs.root
        needed: set[bytes] = set()
        if root.metadata is not None:
            self._need(metadata_path(raw_digest(root.metadata.digest)))
        if root.boot is not None:
            path = boot_path(raw_digest(root.boot.digest))
            boot = parse_boot(self._unpacked(path, root.boot).read_bytes(), path)
            whole = range(len(boot.objects))
            wanted = whole if named.part == "all" else start_objects(boot)
            needed.update(bytes.fromhex(boot.objects[index].digest) for index in wanted)
        file = self._unpacked(catalog_path(raw_digest(root.catalog.digest)), root.catalog)
        if named.part == "all":
            needed.update(_objects_of(file))
        for digest in needed:
            self._need(object_path(digest))

    def _need(self, path: str) -> None:
        if not (self._repository.path / path).is_file():
            raise MissingError(f"{path} is missing")

    def _unpacked(self, path: str, ref: BlobRef) -> Path:
        target = self._work / "unpacked"
        if ref.size > MAX_FRAME_CONTENT[path.partition("/")[0]]:
            raise FormatError(f"{path} is said to have {ref.size} bytes")
        accept.unpacked(ref.size, raw_digest(ref.digest), target, self._repository.path / path)
        return target


def _objects_of(catalog: Path) -> Iterator[bytes]:
    try:
        with CatalogReader.open(catalog) as reader:
            yield from (each.digest for each in reader.objects())
    except CatalogError as error:
        raise FormatError(str(error)) from error
