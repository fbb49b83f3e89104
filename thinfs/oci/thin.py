"""Thin images: an image's configuration over one layer that holds one file, the recipe.

The same image and recipe always give the same bytes, on any machine: the layer's gzip stream
is stored, not deflated, for deflate's output depends on the version of zlib. A recipe is a few
kilobytes.
"""

from __future__ import annotations

import struct
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from thinfs.errors import FormatError
from thinfs.oci.digest import digest_of
from thinfs.oci.manifest import descriptor_json
from thinfs.oci.model import MAX_CONFIG_BYTES, Descriptor, Image, MediaType, Platform
from thinfs.oci.recipe import RECIPE_NAME, RECIPE_VERSION, Recipe, render_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
RECIPE_ANNOTATION = "io.thinfs.recipe.version"

_TAR_BLOCK = 512
_STORED_BLOCK_BYTES = 0xFFFF  # RFC 1951, section 3.2.4
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # deflate, no name, no time, unknown system


class _Annotated(msgspec.Struct, frozen=True):
    annotations: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class ThinImage:
    """One thin image for one platform, ready to be delivered.

    Attributes:
        platform: the original's.
        manifest: OCI manifest.
        config: the original's, with the one layer's diffID and a history of one entry.
        layer: gzip stream of a tar with ``thin.json``.
        manifest_descriptor: names ``manifest``, with its platform.
        config_descriptor: names ``config``.
        layer_descriptor: names ``layer``.
    """

    platform: Platform
    manifest: bytes
    config: bytes
    layer: bytes
    manifest_descriptor: Descriptor
    config_descriptor: Descriptor
    layer_descriptor: Descriptor

    @property
    def root(self) -> Descriptor:
        """What a name for the thin image stands for."""
        return self.manifest_descriptor

    @property
    def digest(self) -> str:
        """Digest of what a name for the thin image stands for."""
        return self.root.digest

    @property
    def blobs(self) -> tuple[tuple[Descriptor, bytes], ...]:
        """All blobs, each after those that it names."""
        return (
            (self.layer_descriptor, self.layer),
            (self.config_descriptor, self.config),
            (self.manifest_descriptor, self.manifest),
        )


@dataclass(frozen=True, slots=True)
class ThinIndex:
    """Thin images for several platforms under one name.

    Attributes:
        images: one for each platform.
        index: OCI index of their manifests.
        index_descriptor: names ``index``.
    """

    images: tuple[ThinImage, ...]
    index: bytes
    index_descriptor: Descriptor

    @property
    def root(self) -> Descriptor:
        """What a name for the thin images stands for."""
        return self.index_descriptor

    @property
    def digest(self) -> str:
        """Digest of what a name for the thin images stands for."""
        return self.root.digest

    @property
    def blobs(self) -> tuple[tuple[Descriptor, bytes], ...]:
        """All blobs, each after those that it names."""
        below = tuple(blob for image in self.images for blob in image.blobs)
        return (*below, (self.index_descriptor, self.index))


def build_thin_image(image: Image, recipe: Recipe) -> ThinImage:
    """Make the thin image of an image.

    Args:
        image: the original.
        recipe: what the one file says.

    Raises:
        FormatError: the original's configuration is malformed.
    """
    tar = _recipe_tar(render_recipe(recipe))
    layer = _stored_gzip(tar)
    config = _thin_config(image, digest_of(tar))
    layer_descriptor = _describe(MediaType.OCI_LAYER_GZIP, layer)
    config_descriptor = _describe(MediaType.OCI_CONFIG, config)
    manifest = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": MediaType.OCI_MANIFEST,
            "config": descriptor_json(config_descriptor),
            "layers": [descriptor_json(layer_descriptor)],
            "annotations": {
                RECIPE_ANNOTATION: RECIPE_VERSION,
                BASE_DIGEST: image.manifest_digest,
                BASE_NAME: image.reference,
            },
        }
    )
    return ThinImage(
        platform=image.platform,
        manifest=manifest,
        config=config,
        layer=layer,
        manifest_descriptor=_describe(MediaType.OCI_MANIFEST, manifest, image.platform),
        config_descriptor=config_descriptor,
        layer_descriptor=layer_descriptor,
    )


def renew_thin_image(
    manifest: bytes, config: bytes, platform: Platform, recipe: Recipe
) -> ThinImage:
    """Make a thin image again with another recipe: the same bytes as when it is converted.

    Args:
        manifest: of the thin image.
        config: of the thin image; all but its layers is the original's.
        platform: the original's.
        recipe: what the one file says from now on.

    Raises:
        FormatError: the manifest does not say what the thin image was made from.
    """
    try:
        notes = msgspec.json.decode(manifest, type=_Annotated).annotations
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"a thin image's manifest is malformed: {error}") from error
    if BASE_NAME not in notes or BASE_DIGEST not in notes:
        raise FormatError("a thin image's manifest does not name the original; convert it again")
    original = Image(
        reference=notes[BASE_NAME],
        manifest_digest=notes[BASE_DIGEST],
        platform=platform,
        config=config,
        layers=(),
    )
    return build_thin_image(original, recipe)


def build_thin_index(images: Sequence[ThinImage]) -> ThinIndex:
    """Put thin images for several platforms under one name, in the given order."""
    index = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": MediaType.OCI_INDEX,
            "manifests": [descriptor_json(image.manifest_descriptor) for image in images],
            "annotations": {RECIPE_ANNOTATION: RECIPE_VERSION},
        }
    )
    return ThinIndex(tuple(images), index, _describe(MediaType.OCI_INDEX, index))


def _describe(media_type: str, data: bytes, platform: Platform | None = None) -> Descriptor:
    return Descriptor(media_type, digest_of(data), len(data), platform=platform)


def _thin_config(image: Image, diff_id: str) -> bytes:
    """The configuration with other layers; every other value stays the same bytes."""
    try:
        values = msgspec.json.decode(image.config, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{image.reference}: configuration is malformed: {error}") from error
    rootfs = {"type": "layers", "diff_ids": [diff_id]}
    step: dict[str, str | msgspec.Raw] = {"created_by": f"thinfs convert {image.reference}"}
    if "created" in values:
        step = {"created": values["created"], **step}
    values["rootfs"] = msgspec.Raw(msgspec.json.encode(rootfs))
    values["history"] = msgspec.Raw(msgspec.json.encode([step]))
    config = msgspec.json.encode(values)
    if len(config) > MAX_CONFIG_BYTES:
        raise FormatError(f"{image.reference}: configuration of {len(config)} bytes is too large")
    return config


def _recipe_tar(recipe: bytes) -> bytes:
    """A tar with ``thin.json``, readable by all, of root, from 1970."""
    info = tarfile.TarInfo(RECIPE_NAME)  # owner 0:0 and mtime 0 are its defaults
    info.size, info.mode = len(recipe), 0o444
    padding = bytes(-len(recipe) % _TAR_BLOCK)
    return info.tobuf(tarfile.USTAR_FORMAT) + recipe + padding + bytes(2 * _TAR_BLOCK)


def _stored_gzip(data: bytes) -> bytes:
    """A gzip stream of stored blocks (RFC 1951, RFC 1952)."""
    out = bytearray(_GZIP_HEADER)
    for start in range(0, len(data), _STORED_BLOCK_BYTES):
        block = data[start : start + _STORED_BLOCK_BYTES]
        is_last = start + len(block) == len(data)
        out += struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block
    out += struct.pack("<II", zlib.crc32(data), len(data))
    return bytes(out)
