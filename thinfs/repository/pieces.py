"""Ordinary images cut up for comparison: by whole layers, and by blocks of compressed layers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from catalog.compare import Shares, shares
from thinfs.errors import IntegrityError
from thinfs.oci.model import Platform
from thinfs.oci.source import open_source
from thinfs.store.layout import raw_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from thinfs.config import RegistryConfig
    from thinfs.oci.model import Descriptor
    from thinfs.oci.source import ImageSource

BLOCK_BYTES: Final = 256 << 10
"""What IPFS cuts files into, as the project that first compared images so did."""


@dataclass(frozen=True, slots=True)
class LayerComparison:
    """Two ordinary images. Bytes are compressed ones.

    Attributes:
        layers: whole layers.
        blocks: blocks of 256 KiB of the layers, each layer cut from its beginning.
    """

    layers: Shares
    blocks: Shares


def compare_layers(a: str, b: str, config: RegistryConfig) -> LayerComparison:
    """Compare the compressed layers of two images; reads all of them.

    Raises:
        ThinfsError: an image cannot be found or read.
    """
    pieces = [_pieces(name, config) for name in (a, b)]
    (layers_a, blocks_a), (layers_b, blocks_b) = pieces
    return LayerComparison(
        layers=shares(sorted(layers_a.items()), sorted(layers_b.items())),
        blocks=shares(sorted(blocks_a.items()), sorted(blocks_b.items())),
    )


def _pieces(name: str, config: RegistryConfig) -> tuple[dict[bytes, int], dict[bytes, int]]:
    source = open_source(name, config)
    try:
        [image] = source.images([Platform.host()])
        descriptors = {layer.descriptor.digest: layer.descriptor for layer in image.layers}
        layers = {raw_digest(each.digest): each.size for each in descriptors.values()}
        blocks: dict[bytes, int] = {}
        for descriptor in descriptors.values():
            blocks.update(_blocks_of(source, descriptor))
        return layers, blocks
    finally:
        source.close()


def _blocks_of(source: ImageSource, descriptor: Descriptor) -> Iterator[tuple[bytes, int]]:
    whole = hashlib.sha256()
    with source.open_blob(descriptor) as chunks:
        for block in _cut(chunks):
            whole.update(block)
            yield hashlib.sha256(block).digest(), len(block)
    if whole.digest() != raw_digest(descriptor.digest):
        raise IntegrityError(f"layer {descriptor.digest} holds other bytes than its digest says")


def _cut(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= BLOCK_BYTES:
            yield bytes(held[:BLOCK_BYTES])
            del held[:BLOCK_BYTES]
    if held:
        yield bytes(held)
