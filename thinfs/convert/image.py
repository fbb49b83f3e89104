"""One image: layers that are new are converted, the others taken as they are, then the recipe."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from thinfs.convert.layer import ConvertedLayer, LayerProgress, Workshop, convert_layer
from thinfs.convert.objects import DEFAULT_LEVEL
from thinfs.convert.pack import PackCounts
from thinfs.convert.root import KEEP, BootWish, convert_root, with_boot
from thinfs.oci.digest import hex_of
from thinfs.oci.recipe import (
    RECIPE_VERSION,
    BlobRef,
    Recipe,
    RecipeExtension,
    RecipeLayer,
    RecipeRoot,
)
from thinfs.store.index import ContentIndex
from thinfs.store.layout import INDEX_FILE, layer_path, raw_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thinfs.oci.model import Image, Layer
    from thinfs.oci.source import ImageSource
    from thinfs.store.local import LocalRepository
    from thinfs.store.records import LayerRecord, PublishedFile, RootRecord

log = logging.getLogger(__name__)


class ImageProgress(LayerProgress, Protocol):
    """Hears how far an image is."""

    def layer(self, digest: str, size: int, *, present: bool) -> None:
        """A layer begins; ``present`` when the repository has it already."""
        ...

    def merging(self) -> None:
        """All layers are there; the root is being merged."""
        ...


@dataclass(frozen=True, slots=True)
class ConvertedImage:
    """What converting one image for one platform did. All sizes in bytes.

    Attributes:
        image: what was converted.
        recipe: what its thin image says.
        root: the merged root.
        layers_present: layers the repository had already.
        downloaded_bytes: compressed layer bytes read from the source.
        counts: what packing the other layers did.
    """

    image: Image
    recipe: Recipe
    root: RootRecord
    layers_present: int
    downloaded_bytes: int
    counts: PackCounts


@contextmanager
def workshop(
    repository: LocalRepository, *, threads: int | None = None, level: int = DEFAULT_LEVEL
) -> Iterator[Workshop]:
    """Everything that converting into ``repository`` needs, put away at the end.

    Args:
        repository: where images go.
        threads: how many compress at once; the machine's processors by default.
        level: zstd level of objects.
    """
    with repository.converting() as work:
        index = ContentIndex(repository.path / INDEX_FILE)
        try:
            yield Workshop(repository, index, work, threads or os.cpu_count() or 1, level)
        finally:
            index.close()


def convert_image(
    image: Image,
    source: ImageSource,
    shop: Workshop,
    url: str,
    progress: ImageProgress,
    *,
    wish: BootWish = KEEP,
) -> ConvertedImage:
    """Convert one image; layers that the repository has are not read from the source.

    Args:
        image: what to convert.
        source: gives its blobs.
        shop: where the work is done.
        url: the repository's address as nodes will know it.
        progress: hears how far it is.
        wish: what its boot record is to be made with.

    Raises:
        ThinfsError: as :func:`thinfs.convert.layer.convert_layer`; the layers that were
            finished before stay and are not read again by the next try.
    """
    layers = tuple({layer.descriptor.digest: layer for layer in image.layers}.values())
    root = _finished_root(image, wish, shop)
    if root is not None and all(_record(layer, shop) for layer in layers):
        for layer in layers:
            progress.layer(layer.descriptor.digest, layer.descriptor.size, present=True)
        return ConvertedImage(image, _recipe(image, root, url), root, len(layers), 0, PackCounts())
    trees: dict[str, Path] = {}
    converted: list[ConvertedLayer] = []
    for layer in layers:
        digest, size = layer.descriptor.digest, layer.descriptor.size
        tree = _unpacked(layer, shop)
        progress.layer(digest, size, present=tree is not None)
        if tree is None:
            with source.open_blob(layer.descriptor) as blocks:
                converted.append(convert_layer(layer, blocks, shop, progress))
            tree = converted[-1].catalog
        trees[digest] = tree
    progress.merging()
    catalogs = [trees[layer.descriptor.digest] for layer in image.layers]
    root = convert_root(image.chain_id, catalogs, wish, shop)
    return ConvertedImage(
        image,
        _recipe(image, root, url),
        root,
        layers_present=len(layers) - len(converted),
        downloaded_bytes=sum(each.record.size for each in converted),
        counts=PackCounts.total(each.counts for each in converted),
    )


def _finished_root(image: Image, wish: BootWish, shop: Workshop) -> RootRecord | None:
    record = shop.repository.root_record(raw_digest(image.chain_id))
    return with_boot(record, wish, shop) if record and shop.repository.has_root(record) else None


def _record(layer: Layer, shop: Workshop) -> LayerRecord | None:
    """What the layer became, if it was converted before and is the layer the image means."""
    record = shop.repository.layer_record(raw_digest(layer.descriptor.digest))
    return record if record and record.diff_id == layer.diff_id else None


def _unpacked(layer: Layer, shop: Workshop) -> Path | None:
    """The SQLite file of a layer that was converted before; ``None`` when it must be again."""
    record = _record(layer, shop)
    if record is None:
        return None
    target = shop.work / f"layer-{hex_of(layer.descriptor.digest)}.sqlite"
    if shop.repository.unpack_catalog(record.catalog, target):
        return target
    log.warning(
        "layer %s: its catalog in the repository is missing or damaged; converting it again",
        layer.descriptor.digest[:19],
    )
    target.unlink(missing_ok=True)
    return None


def _recipe(image: Image, root: RootRecord, url: str) -> Recipe:
    base = url.rstrip("/")
    return Recipe(
        version=RECIPE_VERSION,
        origin=f"{image.reference.partition('@')[0]}@{image.manifest_digest}",
        layers=[
            RecipeLayer(
                digest=hex_of(layer.descriptor.digest),
                url=f"{base}/{layer_path(raw_digest(layer.descriptor.digest))}",
            )
            for layer in image.layers
        ],
        thinfs=RecipeExtension(
            repositories=[base],
            root=RecipeRoot(
                chain_id=image.chain_id,
                catalog=published_ref(root.catalog),
                metadata=published_ref(root.metadata) if root.metadata else None,
                boot=published_ref(root.boot) if root.boot else None,
            ),
        ),
    )


def published_ref(file: PublishedFile) -> BlobRef:
    """A published file as recipes name it."""
    return BlobRef(digest=file.digest, size=file.size, stored_size=file.stored_size)
