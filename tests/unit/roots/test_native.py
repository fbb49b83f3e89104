"""Metadata images and places of roots, without a kernel."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from msgspec import structs

from catalog.erofs import render
from catalog.model import TreeKind
from catalog.reader import CatalogReader
from tests.support.catalogs import directory, file, write_layer
from thinfs.errors import FormatError, MissingError, StoreError, ThinfsError
from thinfs.oci.recipe import BlobRef, Recipe, RecipeExtension, RecipeRoot
from thinfs.roots.boot import BootContents
from thinfs.roots.contents import RootMap
from thinfs.roots.layers import Layers, lowerdir, read_only_options, xino
from thinfs.roots.metadata import FETCH_WITHIN_S, SMALL_BYTES, MetadataImages
from thinfs.roots.opening import OpenRoot
from thinfs.roots.places import NativePlaces, Place, TreePlaces
from thinfs.roots.probe import probe
from thinfs.store.boot import BootContent, BootRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thinfs.store.source import Source

NATIVE = Place("native", "/m::/c::/f", "/d")


@dataclass
class FakeImages:
    """Has ``published`` by digest; ``error`` is raised instead, or no answer comes at all."""

    folder: Path
    published: dict[bytes, bytes] = field(default_factory=dict)
    error: ThinfsError | None = None
    silent: bool = False
    pinned: list[bytes] = field(default_factory=list)
    here: dict[bytes, Path] = field(default_factory=dict)

    async def file(
        self,
        digest: bytes,
        size: int,
        stored_size: int,
        sources: Sequence[Source],
        /,
    ) -> Path:
        if self.silent:
            await trio.sleep_forever()
        if self.error is not None:
            raise self.error
        if digest not in self.published:
            raise MissingError("no repository has it")
        assert size == len(self.published[digest])
        return self._keep(digest, self.published[digest])

    async def kept(self, digest: bytes, /) -> Path | None:
        return self.here.get(digest)

    async def pin(self, digest: bytes, /) -> None:
        self.pinned.append(digest)

    async def adopt(self, digest: bytes, made: Path, /) -> Path:
        return self._keep(digest, made.read_bytes())

    async def release(self, digest: bytes, /) -> None:
        self.pinned.remove(digest)

    def _keep(self, digest: bytes, body: bytes) -> Path:
        self.pinned.append(digest)
        path = self.folder / digest.hex()
        path.write_bytes(body)
        return path


@pytest.fixture
def images(tmp_path: Path) -> FakeImages:
    return FakeImages(tmp_path)


@pytest.fixture
def getter(images: FakeImages, tmp_path: Path) -> MetadataImages:
    return MetadataImages(images, tmp_path, CatalogReader.open)


@pytest.fixture
def rendered(tmp_path: Path) -> bytes:
    """The image of the root."""
    entries = [directory(b""), file(b"f", b"body")]
    write_layer(tmp_path / "catalog", entries, kind=TreeKind.ROOT)
    with CatalogReader.open(tmp_path / "catalog") as reader:
        render(reader, tmp_path / "image")
    return (tmp_path / "image").read_bytes()


@pytest.fixture
def root(tmp_path: Path, rendered: bytes) -> Iterator[OpenRoot]:
    with CatalogReader.open(tmp_path / "catalog") as reader:
        yield open_root(reader, rendered)


def open_root(reader: CatalogReader, image: bytes | None) -> OpenRoot:
    blob = BlobRef(digest="sha256:" + "a" * 64, size=10, stored_size=5)
    metadata = None
    if image is not None:
        digest = "sha256:" + hashlib.sha256(image).hexdigest()
        metadata = BlobRef(digest=digest, size=len(image), stored_size=5)
    made = RecipeRoot(chain_id="sha256:" + "0" * 64, catalog=blob, metadata=metadata)
    recipe = Recipe("1.0", "test/image:1", [], RecipeExtension(["file:///r"], made))
    return OpenRoot("a" * 16, b"a" * 32, recipe, RootMap(catalog=reader), ())


def in_pieces(root: OpenRoot, image: bytes) -> OpenRoot:
    """The same root with an image that is worth to be read in pieces."""
    digest = hashlib.sha256(image).hexdigest()
    record = BootRecord(1, BootContent(digest, len(image), ()), (), (), ())
    boot = BlobRef(digest="sha256:" + "b" * 64, size=10, stored_size=5)
    blob = BlobRef(digest=f"sha256:{digest}", size=len(image), stored_size=SMALL_BYTES + 1)
    extension = root.recipe.thinfs
    assert extension is not None
    made = structs.replace(extension.root, metadata=blob, boot=boot)
    recipe = structs.replace(root.recipe, thinfs=structs.replace(extension, root=made))
    contents = RootMap(boot=BootContents(record), catalog=catalog(root))
    return replace(root, recipe=recipe, contents=contents)


def catalog(root: OpenRoot) -> CatalogReader:
    assert root.contents.known is not None
    return root.contents.known


async def test_a_published_image_is_fetched(
    images: FakeImages, getter: MetadataImages, root: OpenRoot, rendered: bytes
) -> None:
    digest = hashlib.sha256(rendered).digest()
    images.published[digest] = rendered
    image = await getter.get(root)
    assert (image.digest, images.pinned) == (digest, [digest])
    await getter.release(image)
    assert images.pinned == []


async def test_nobody_waits_long_for_a_published_image(
    images: FakeImages,
    getter: MetadataImages,
    root: OpenRoot,
    rendered: bytes,
    autojump_clock: trio.testing.MockClock,
) -> None:
    images.silent = True
    before = trio.current_time()
    image = await getter.get(root)
    assert image.path.read_bytes() == rendered
    assert trio.current_time() - before == pytest.approx(FETCH_WITHIN_S)


@pytest.mark.parametrize("named", [True, False])
async def test_an_image_that_cannot_be_had_is_rendered(
    images: FakeImages, getter: MetadataImages, root: OpenRoot, rendered: bytes, named: bool
) -> None:
    asked = root if named else open_root(catalog(root), None)
    image = await getter.get(asked)
    assert image.path.read_bytes() == rendered
    assert images.pinned == [hashlib.sha256(rendered).digest()]
    assert not list(images.folder.glob("metadata-*"))


async def test_a_published_file_that_is_no_image_is_not_used(
    images: FakeImages, getter: MetadataImages, root: OpenRoot, rendered: bytes
) -> None:
    wrong = b"no image" * 1000
    images.published[hashlib.sha256(wrong).digest()] = wrong
    image = await getter.get(open_root(catalog(root), wrong))
    assert image.path.read_bytes() == rendered
    assert images.pinned == [image.digest]


async def test_a_full_disk_is_said_at_once(
    images: FakeImages, getter: MetadataImages, root: OpenRoot
) -> None:
    images.error = StoreError("no room")
    with pytest.raises(StoreError, match="no room"):
        await getter.get(root)


async def test_what_cannot_be_rendered_is_a_matter_of_format(
    getter: MetadataImages, tmp_path: Path
) -> None:
    write_layer(tmp_path / "layer", [directory(b"")], kind=TreeKind.LAYER)
    with (
        CatalogReader.open(tmp_path / "layer") as reader,
        pytest.raises(FormatError, match="no metadata image can be made: only the tree of a root"),
    ):
        await getter.get(open_root(reader, None))


@dataclass
class FakeMounts:
    error: StoreError | None = None
    done: list[str] = field(default_factory=list)

    def mount(self, root_id: str, image: Path, /) -> Place:
        assert image.exists()
        self.done.append(f"mount {root_id[:1]}")
        if self.error is not None:
            raise self.error
        return NATIVE

    def renew(self, root_id: str, /, image: Path | None = None) -> Place:
        self.done.append(f"renew {root_id[:1]}" + (f" with {image.name}" if image else ""))
        return NATIVE

    def unmount(self, root_id: str, /) -> None:
        self.done.append(f"unmount {root_id[:1]}")


async def test_a_native_place_is_mounted_renewed_and_unmounted(
    images: FakeImages, getter: MetadataImages, root: OpenRoot
) -> None:
    mounts = FakeMounts()
    places = NativePlaces(mounts, getter, None)
    assert await places.place(root) == await places.place(root) == NATIVE
    assert len(images.pinned) == 1
    await places.remove(root)
    await places.remove(root)
    assert mounts.done == ["mount a", "renew a", "unmount a"]
    assert images.pinned == []


@dataclass
class FakePieces:
    """The image of every root is ``image``."""

    image: Path

    async def head(self, root: OpenRoot, length: int, /) -> bytes:
        return self.image.read_bytes()[:length]

    def path(self, root: OpenRoot, /) -> Path:
        return self.image


async def test_once_all_pieces_are_here_the_next_holder_gets_a_mount_of_the_file(
    images: FakeImages, root: OpenRoot, rendered: bytes, tmp_path: Path
) -> None:
    digest = hashlib.sha256(rendered).digest()
    pieces = FakePieces(tmp_path / "image")
    getter = MetadataImages(images, tmp_path, CatalogReader.open, pieces)
    mounts = FakeMounts()
    places = NativePlaces(mounts, getter, None)
    asked = in_pieces(root, rendered)
    for _ in range(2):
        await places.place(asked)
    images.here[digest] = tmp_path / "whole"
    for _ in range(2):
        await places.place(asked)
    await places.remove(asked)
    assert mounts.done == ["mount a", "renew a", "renew a with whole", "renew a", "unmount a"]
    assert images.pinned == []


@pytest.mark.expects_log("root a{16} is served by FUSE alone: the kernel says no")
async def test_a_root_that_the_kernel_refuses_is_a_tree_and_not_tried_again(
    images: FakeImages, getter: MetadataImages, root: OpenRoot
) -> None:
    mounts = FakeMounts(StoreError("the kernel says no"))
    places = NativePlaces(mounts, getter, TreePlaces(Path("/t")))
    for _ in range(2):
        assert (await places.place(root)).mode == "tree"
    await places.remove(root)
    assert mounts.done == ["mount a"]
    assert images.pinned == []


async def test_where_native_is_demanded_the_kernels_refusal_is_an_error(
    images: FakeImages, getter: MetadataImages, root: OpenRoot
) -> None:
    places = NativePlaces(FakeMounts(StoreError("the kernel says no")), getter, None)
    with pytest.raises(StoreError, match="the kernel says no"):
        await places.place(root)
    assert images.pinned == []


def test_layers_are_put_together_as_overlayfs_reads_them(tmp_path: Path) -> None:
    lower = lowerdir(Path("/m"), Path("/c"), Path("/f"))
    assert lower == "/m::/c::/f"
    assert read_only_options(lower, Layers.DIRECT) == ["lowerdir=/m::/c::/f"]
    assert read_only_options(lower, Layers.NESTED) == ["lowerdir=/m::/c::/f", "metacopy=on"]
    assert xino("on", tmp_path) == ["xino=on"]
    assert xino("on", tmp_path / "missing") == []


@pytest.mark.parametrize("name", ["a,b", "a:b", "a\\b", 'a"b'])
def test_a_path_that_overlayfs_would_misread_is_a_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(StoreError, match="cannot be an overlay's layer"):
        probe(tmp_path / name, tmp_path)
