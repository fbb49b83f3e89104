"""What is in an image: by layer, by directory, and what of it a start has used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from thinfs.errors import MissingError, TransportError
from thinfs.repository import accept
from thinfs.repository.usage import (
    Directory,
    directories,
    largest,
    never_used,
    used_by_boot,
    used_by_profile,
)
from thinfs.store.boot import parse_boot
from thinfs.store.layout import boot_path, layer_path, profile_path, raw_digest
from thinfs.store.profiles import MAX_PROFILE_BYTES, parse_profile
from thinfs.store.records import MAX_RECORD_BYTES, LayerRecord, parse_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalog.model import CatalogSummary
    from thinfs.oci.recipe import Recipe, RecipeRoot
    from thinfs.repository.stock import Stock


@dataclass(frozen=True, slots=True)
class LayerShare:
    """What one layer brings. Bytes of contents are uncompressed, each content counts once.

    Attributes:
        digest: of the compressed layer, bare hex.
        compressed_bytes: of the layer; ``None`` when no repository describes it.
        contents: distinct file bodies.
        content_bytes: their sum.
        repeated_bytes: those of them that a layer below brings too.
        hidden_bytes: those of them that the image does not show: replaced or removed above.
        used_bytes: what a start has read of those that no layer below brings.
    """

    digest: str
    compressed_bytes: int | None
    contents: int = 0
    content_bytes: int = 0
    repeated_bytes: int = 0
    hidden_bytes: int = 0
    used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Use:
    """What is known about starts.

    Attributes:
        source: ``profile`` or ``boot record``.
        contents: distinct contents that were read.
        bytes: what was read of them.
        runs: starts that were recorded; 0 when it is not known.
        ready_ms: median milliseconds until the container was ready; 0 when it is not known.
    """

    source: str
    contents: int
    bytes: int
    runs: int = 0
    ready_ms: int = 0


@dataclass(frozen=True, slots=True)
class Inspection:
    """One image.

    Attributes:
        origin: the image it was made from.
        chain_id: of its layers.
        summary: counts of the whole tree.
        stored_bytes: objects of the tree, as stored.
        catalog_bytes: of the catalog, as stored.
        metadata_bytes: of the metadata image, as stored; 0 when there is none.
        layers: base first.
        use: what a start reads; ``None`` when no start was recorded.
        largest: directories that say where the bytes are, largest first.
        never_used: the largest directories that no start has read from; empty without ``use``.
    """

    origin: str
    chain_id: str
    summary: CatalogSummary
    stored_bytes: int
    catalog_bytes: int
    metadata_bytes: int
    layers: tuple[LayerShare, ...]
    use: Use | None
    largest: tuple[Directory, ...]
    never_used: tuple[Directory, ...]


def inspect(recipe: Recipe, stock: Stock, top: int) -> Inspection:
    """Look into an image.

    Args:
        recipe: of the image; it has a merged root.
        stock: gives its catalogs and records.
        top: how many directories to list.

    Raises:
        ThinfsError: its catalog cannot be read; records that cannot be are left out.
    """
    assert recipe.thinfs is not None
    root = recipe.thinfs.root
    with stock.catalog(root.catalog) as tree:
        sizes = {content.digest: content.size for _, content in tree.contents()}
        stored_bytes = sum(each.stored_size for each in tree.objects())
        use, used = _use(root, stock, sizes)
        found = directories(tree, used)
        summary = tree.summary()
    return Inspection(
        origin=recipe.origin,
        chain_id=root.chain_id,
        summary=summary,
        stored_bytes=stored_bytes,
        catalog_bytes=root.catalog.stored_size,
        metadata_bytes=root.metadata.stored_size if root.metadata else 0,
        layers=_layers(recipe, stock, sizes, used),
        use=use,
        largest=tuple(largest(found, top)),
        never_used=tuple(never_used(found, top)) if use else (),
    )


def _use(
    root: RecipeRoot, stock: Stock, sizes: Mapping[bytes, int]
) -> tuple[Use | None, dict[bytes, int]]:
    """A profile knows more than the boot record that was made of it."""
    path = profile_path(raw_digest(root.chain_id))
    try:
        file = stock.copy(path, MAX_PROFILE_BYTES, partial(accept.profile, path.rpartition("/")[2]))
    except (MissingError, TransportError):
        pass  # profiles are for converters: not every repository offers them
    else:
        profile = parse_profile(file.read_bytes(), path)
        used = used_by_profile(profile, sizes)
        use = Use("profile", len(used), sum(used.values()), profile.runs, profile.ready_ms)
        return use, used
    if root.boot is not None:
        path = boot_path(raw_digest(root.boot.digest))
        used = used_by_boot(parse_boot(stock.unpacked(path, root.boot).read_bytes(), path))
        if used:
            return Use("boot record", len(used), sum(used.values())), used
    return None, {}


def _layers(
    recipe: Recipe, stock: Stock, shown: Mapping[bytes, int], used: Mapping[bytes, int]
) -> tuple[LayerShare, ...]:
    below: set[bytes] = set()
    return tuple(_layer(layer.digest, stock, shown, used, below) for layer in recipe.layers)


def _layer(
    digest: str,
    stock: Stock,
    shown: Mapping[bytes, int],
    used: Mapping[bytes, int],
    below: set[bytes],
) -> LayerShare:
    path = layer_path(bytes.fromhex(digest))
    try:
        file = stock.copy(path, MAX_RECORD_BYTES, partial(accept.layer_record, digest))
    except (MissingError, TransportError):
        return LayerShare(digest, None)
    record = parse_record(file.read_bytes(), LayerRecord, path)
    with stock.catalog(record.catalog) as catalog:
        contents = {content.digest: content.size for _, content in catalog.contents()}
    new = contents.keys() - below
    below.update(contents)
    return LayerShare(
        digest=digest,
        compressed_bytes=record.size,
        contents=len(contents),
        content_bytes=sum(contents.values()),
        repeated_bytes=sum(size for each, size in contents.items() if each not in new),
        hidden_bytes=sum(size for each, size in contents.items() if each not in shown),
        used_bytes=sum(used.get(each, 0) for each in new),
    )
