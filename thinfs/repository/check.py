"""Checking a repository: every reference leads somewhere, and every hash is right.

Starts from the names and follows every reference, then looks at what nothing refers to as well,
for converters take what they find. A repository may be checked while converters and collectors
work on it: what is damaged is looked at a second time before it counts.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from catalog.check import check as check_catalog
from catalog.reader import CatalogReader
from thinfs.errors import FormatError, IntegrityError, MissingError, StoreError, ThinfsError
from thinfs.fetch.verify import stored_bound
from thinfs.oci.kept import named_images, removed_images
from thinfs.oci.layout import INDEX_FILE, LAYOUT_FILE
from thinfs.oci.model import MAX_MANIFEST_BYTES
from thinfs.repository import accept
from thinfs.repository.files import (
    BLOB_FOLDER,
    FRAME_FOLDERS,
    MAX_FRAME_CONTENT,
    RECORD_FOLDERS,
    files_in,
    read_small,
)
from thinfs.repository.images import blob_path, read_image
from thinfs.repository.verdicts import FOUND, Verdicts
from thinfs.store.boot import parse_boot
from thinfs.store.layout import (
    IMAGES_DIRECTORY,
    MAX_STORED_OBJECT_BYTES,
    REMOVED_FILE,
    REPOSITORY_FILE,
    boot_path,
    catalog_path,
    layer_path,
    metadata_path,
    object_path,
    raw_digest,
    root_path,
)
from thinfs.store.profiles import MAX_PROFILE_BYTES
from thinfs.store.records import MAX_RECORD_BYTES, LayerRecord, RootRecord, parse_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from thinfs.oci.model import Descriptor
    from thinfs.oci.recipe import BlobRef, Recipe
    from thinfs.repository.files import File
    from thinfs.repository.problems import Accept, Checked, CheckProgress, Harm, Mending
    from thinfs.store.records import PublishedFile

    Ref = BlobRef | PublishedFile

T = TypeVar("T")

IN_FLIGHT: Final = 16
"""Objects that are read and hashed at once, at most: some 2 MiB each."""

HERE: Final = "the repository"
FOR_CONVERTERS: Final = "{}, for converters"


def check(
    repository: Path, work: Path, mending: Mending | None, progress: CheckProgress
) -> Checked:
    """Check a whole repository, and mend what can be mended.

    Args:
        repository: its directory.
        work: a directory for temporaries: one catalog at a time.
        mending: gives right copies; ``None`` only checks.
        progress: hears how far it is.

    Raises:
        StoreError: the disk failed; what is wrong with a single file is no exception.
    """
    checker = _Checker(repository, work, mending, progress)
    checker.run()
    return checker.found


class _Checker:
    def __init__(
        self, repository: Path, work: Path, mending: Mending | None, progress: CheckProgress
    ) -> None:
        self._repository = repository
        self._work = work
        self._files = Verdicts(repository, mending, progress)
        self._progress = progress
        self._objects: dict[bytes, tuple[int, str]] = {}  # digest: size, who names it
        self.found = self._files.found

    def run(self) -> None:
        self._progress.stage("checking names and images")
        self._fixed_files()
        self._images()
        self._progress.stage("checking records")
        for folder in RECORD_FOLDERS:
            self._records(folder)
        self._progress.stage("checking what nothing refers to")
        for folder in (BLOB_FOLDER, *FRAME_FOLDERS[:-1]):
            self._unnamed(folder)
        self._progress.stage("checking objects")
        self._all_objects()

    # -- names and images

    def _fixed_files(self) -> None:
        self._files.good(REPOSITORY_FILE, HERE, MAX_RECORD_BYTES, accept.repository)
        if not (self._repository / IMAGES_DIRECTORY).is_dir():
            return
        layout = f"{IMAGES_DIRECTORY}/{LAYOUT_FILE}"
        self._files.good(layout, HERE, MAX_RECORD_BYTES, accept.layout)
        self._files.good(f"{IMAGES_DIRECTORY}/{INDEX_FILE}", HERE, MAX_MANIFEST_BYTES, accept.index)

    def _images(self) -> None:
        try:
            named = [(image.name, image.root) for image in named_images(self._repository)]
        except FormatError:
            named = []  # reported already
        self.found.images = len(named)
        try:
            named += [(note.name, note.root) for note in removed_images(self._repository)]
        except FormatError as error:
            self._files.wrong(REMOVED_FILE, str(error), HERE)
        for name, root in named:
            self._image(name or root.digest, root)

    def _image(self, name: str, root: Descriptor) -> None:
        try:
            image = read_image(name, root, partial(self._blob, name))
        except (MissingError, IntegrityError):
            return  # reported already
        except FormatError as error:
            self._files.wrong(blob_path(root.digest), str(error), name)
            return
        for recipe in image.recipes:
            self._recipe(recipe, name)

    def _blob(self, owner: str, descriptor: Descriptor) -> bytes:
        path = blob_path(descriptor.digest)
        test = partial(accept.blob, descriptor.digest, descriptor.size)
        if not self._files.good(path, owner, descriptor.size, test):
            raise MissingError(path)
        return read_small(self._repository / path, descriptor.size)

    def _recipe(self, recipe: Recipe, owner: str) -> None:
        converters = FOR_CONVERTERS.format(owner)
        if recipe.thinfs is not None:
            root = recipe.thinfs.root
            self._tree(root.catalog, root.metadata, root.boot, owner)
            self._root(root_path(raw_digest(root.chain_id)), converters)
        for layer in recipe.layers:
            self._layer(layer_path(bytes.fromhex(layer.digest)), converters)

    # -- records: without one a converter works anew; a wrong one misleads it

    def _records(self, folder: str) -> None:
        for file in files_in(self._repository, folder):
            if file.digest is None:
                self._stray(file)
            elif folder == "layers":
                self._layer(file.path, FOUND)
            elif folder == "roots":
                self._root(file.path, FOUND)
            else:
                test = partial(accept.profile, file.digest.hex())
                self._files.good(file.path, FOUND, MAX_PROFILE_BYTES, test)

    def _layer(self, path: str, owner: str) -> None:
        test = partial(accept.layer_record, path.rpartition("/")[2])
        if self._files.is_new(path) and self._record(path, owner, test):
            self._catalog(self._parsed(path, LayerRecord).catalog, path)

    def _root(self, path: str, owner: str) -> None:
        test = partial(accept.root_record, path.rpartition("/")[2])
        if self._files.is_new(path) and self._record(path, owner, test):
            root = self._parsed(path, RootRecord)
            self._tree(root.catalog, root.metadata, root.boot, path)

    def _record(self, path: str, owner: str, test: Accept) -> bool:
        harm: Harm = "broken" if (self._repository / path).exists() else "note"
        return self._files.good(path, owner, MAX_RECORD_BYTES, test, harm)

    def _parsed(self, path: str, kind: type[T]) -> T:
        return parse_record(read_small(self._repository / path, MAX_RECORD_BYTES), kind, path)

    # -- trees

    def _tree(self, catalog: Ref, metadata: Ref | None, boot: Ref | None, owner: str) -> None:
        self._catalog(catalog, owner)
        if metadata is not None:
            digest = raw_digest(metadata.digest)
            path = metadata_path(digest)
            if self._files.is_new(path):
                test = partial(accept.frame, metadata.size, digest)
                self._files.good(path, owner, stored_bound(metadata.size), test)
        if boot is not None:
            self._boot(boot, metadata, owner)

    def _catalog(self, ref: Ref, owner: str) -> None:
        path = catalog_path(raw_digest(ref.digest))
        target = self._work / "catalog.sqlite"
        if not self._files.is_new(path) or not self._unpacked(path, ref, target, owner):
            return
        problems = check_catalog(target)
        for problem in problems:
            self._files.wrong(path, problem, owner)
        if not problems:
            with CatalogReader.open(target) as catalog:
                for each in catalog.objects():
                    self._expect(each.digest, each.size, path)

    def _boot(self, ref: Ref, metadata: Ref | None, owner: str) -> None:
        path = boot_path(raw_digest(ref.digest))
        target = self._work / "boot.json"
        if not self._files.is_new(path) or not self._unpacked(path, ref, target, owner):
            return
        try:
            boot = parse_boot(target.read_bytes(), path)
        except FormatError as error:
            self._files.wrong(path, str(error), owner)
            return
        if metadata is None or f"sha256:{boot.metadata.digest}" != metadata.digest:
            self._files.wrong(path, "it is of another metadata image", owner)
        for each in boot.objects:
            self._expect(bytes.fromhex(each.digest), each.size, path)

    def _unpacked(self, path: str, ref: Ref, target: Path, owner: str) -> bool:
        if ref.size > MAX_FRAME_CONTENT[path.partition("/")[0]]:
            self._files.wrong(path, f"it is said to have {ref.size} bytes", owner)
            return False
        test = partial(accept.unpacked, ref.size, raw_digest(ref.digest), target)
        return self._files.good(path, owner, stored_bound(ref.size), test)

    def _expect(self, digest: bytes, size: int, owner: str) -> None:
        known = self._objects.setdefault(digest, (size, owner))
        if known[0] != size:
            what = f"{known[0]} bytes according to {known[1]}, {size} according to {owner}"
            self._files.wrong(object_path(digest), what, owner)

    # -- what nothing refers to

    def _unnamed(self, folder: str) -> None:
        for file in files_in(self._repository, folder):
            if file.digest is None:
                self._stray(file)
            elif self._files.is_new(file.path):
                test: Accept = partial(accept.whole_frame, folder, file.digest)
                if folder == BLOB_FOLDER:
                    test = partial(accept.whole_blob, f"sha256:{file.digest.hex()}")
                self._files.good(file.path, FOUND, max(file.size, MAX_STORED_OBJECT_BYTES), test)

    def _stray(self, file: File) -> None:
        self._files.wrong(file.path, "not a file of a repository", FOUND, "note")

    # -- objects

    def _all_objects(self) -> None:
        """Read and hash in threads; everything else happens here."""
        missing = dict(self._objects)
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="check") as pool:
            for file, test, is_good in self._hashed(pool):
                assert file.digest is not None
                _, owner = missing.pop(file.digest, (0, FOUND))
                self._files.count(file.path)
                if not is_good:
                    self._files.good(file.path, owner, MAX_STORED_OBJECT_BYTES, test)
        for digest, (size, owner) in missing.items():
            test = partial(accept.stored_object, size, digest)
            self._files.good(object_path(digest), owner, MAX_STORED_OBJECT_BYTES, test)

    def _hashed(self, pool: ThreadPoolExecutor) -> Iterator[tuple[File, Accept, bool]]:
        under_way: deque[tuple[File, Accept, Future[bool]]] = deque()
        for file in files_in(self._repository, "objects"):
            if file.digest is None:
                self._stray(file)
                continue
            size, _ = self._objects.get(file.digest, (None, FOUND))
            test = partial(accept.stored_object, size, file.digest)
            under_way.append((file, test, pool.submit(_passes, test, self._repository / file.path)))
            if len(under_way) >= IN_FLIGHT:
                first, its_test, result = under_way.popleft()
                yield first, its_test, result.result()
        for first, its_test, result in under_way:
            yield first, its_test, result.result()


def _passes(test: Accept, file: Path) -> bool:
    try:
        test(file)
    except StoreError:
        raise
    except ThinfsError:
        return False
    return True
