"""Manifests, indexes and configurations as JSON: read into values, refused when they are not.

Accepts the OCI image spec 1.0 and 1.1 and Docker's schema 2. What a document is follows from
the media type it came with; one that could be read as two things is refused
(CVE-2021-41190 is about such documents).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec

from thinfs.errors import FormatError
from thinfs.oci.digest import checked_digest
from thinfs.oci.model import (
    CONFIGS,
    INDEXES,
    MANIFESTS,
    MAX_CONFIG_BYTES,
    MAX_INDEX_ENTRIES,
    MAX_LAYER_BYTES,
    SCHEMA1,
    Descriptor,
    Layer,
    MediaType,
    Platform,
    layer_compression,
)
from thinfs.oci.recipe import MAX_LAYERS

_T = TypeVar("_T")

ATTESTATION = "vnd.docker.reference.type"
"""Annotation of index entries that describe other entries (BuildKit's attestations)."""


class _PlatformJson(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str | None = None


class DescriptorJson(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A descriptor as JSON has it."""

    media_type: str
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_LAYER_BYTES)]
    annotations: dict[str, str] | None = None
    platform: _PlatformJson | None = None

    def value(self, what: str) -> Descriptor:
        """The same as a value.

        Raises:
            FormatError: the digest is malformed.
        """
        platform = self.platform
        return Descriptor(
            media_type=self.media_type,
            digest=checked_digest(self.digest, what),
            size=self.size,
            annotations=self.annotations or {},
            platform=Platform.of(platform.os, platform.architecture, platform.variant or "")
            if platform
            else None,
        )


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int = 0
    media_type: str | None = None
    manifests: (
        Annotated[list[DescriptorJson], msgspec.Meta(max_length=MAX_INDEX_ENTRIES)] | None
    ) = None
    config: DescriptorJson | None = None
    layers: Annotated[list[DescriptorJson], msgspec.Meta(max_length=MAX_LAYERS)] | None = None
    fs_layers: msgspec.Raw = msgspec.Raw()


class _RootFs(msgspec.Struct, frozen=True):
    diff_ids: Annotated[list[str], msgspec.Meta(max_length=MAX_LAYERS)] | None = None
    type: str = "layers"


class _Config(msgspec.Struct, frozen=True):
    rootfs: _RootFs
    os: str = ""
    architecture: str = ""
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image's manifest.

    Attributes:
        config: of the configuration; any media type, see :attr:`is_image`.
        layers: base first.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def is_image(self) -> bool:
        """Whether this is a container image rather than some other artifact."""
        return self.config.media_type in CONFIGS


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, or of further indexes.

    Attributes:
        manifests: in the order of the document.
    """

    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """What thinfs needs of an image configuration.

    Attributes:
        platform: what the image runs on.
        diff_ids: of the uncompressed layers, base first.
    """

    platform: Platform
    diff_ids: tuple[str, ...]


def parse_document(data: bytes, media_type: str, what: str) -> Manifest | Index:
    """Read a manifest or an index.

    Args:
        data: the JSON, verified.
        media_type: as the descriptor or the server's answer says; empty when nobody said.
        what: names the document in messages.

    Raises:
        FormatError: it is neither, is ambiguous, or is Docker's schema 1.
    """
    document = _decode(data, _Document, what)
    _refuse_schema1(document, media_type, what)
    media_type = _agreed_type(document, media_type, what)
    if media_type in INDEXES:
        if document.manifests is None or document.layers or document.config:
            raise FormatError(f"{what} is not a proper image index")
        return Index(tuple(entry.value(what) for entry in document.manifests))
    if media_type not in MANIFESTS:
        raise FormatError(f"{what} is of type {media_type!r}, which is no image")
    if document.config is None or document.layers is None or document.manifests:
        raise FormatError(f"{what} is not a proper image manifest")
    layers = tuple(entry.value(what) for entry in document.layers)
    return Manifest(document.config.value(what), layers)


def parse_config(data: bytes, what: str) -> Config:
    """Read an image configuration.

    Raises:
        FormatError: it is none.
    """
    if len(data) > MAX_CONFIG_BYTES:
        raise FormatError(f"{what}: {len(data)} bytes, more than {MAX_CONFIG_BYTES}")
    config = _decode(data, _Config, what)
    if config.rootfs.type != "layers":
        raise FormatError(f"{what}: root file system of type {config.rootfs.type!r}")
    diff_ids = tuple(checked_digest(text, what) for text in config.rootfs.diff_ids or ())
    platform = Platform.of(config.os or "linux", config.architecture, config.variant or "")
    return Config(platform, diff_ids)


def pair_layers(manifest: Manifest, config: Config, what: str) -> tuple[Layer, ...]:
    """Join each layer with its diffID.

    Raises:
        FormatError: the numbers differ, or a layer is of an unknown type.
    """
    if len(manifest.layers) != len(config.diff_ids):
        raise FormatError(
            f"{what} has {len(manifest.layers)} layers, its configuration {len(config.diff_ids)}"
        )
    for layer in manifest.layers:
        if layer_compression(layer.media_type) is None:
            raise FormatError(f"{what} has a layer of type {layer.media_type!r}, which is unknown")
    pairs = zip(manifest.layers, config.diff_ids, strict=True)
    return tuple(Layer(descriptor, diff_id) for descriptor, diff_id in pairs)


def descriptor_json(descriptor: Descriptor) -> dict[str, Any]:
    """A descriptor as JSON-ready values, keys in the spec's order, empty ones left out."""
    result: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.annotations:
        result["annotations"] = dict(sorted(descriptor.annotations.items()))
    if descriptor.platform:
        platform = descriptor.platform
        result["platform"] = {"architecture": platform.architecture, "os": platform.os}
        if platform.variant:
            result["platform"]["variant"] = platform.variant
    return result


def _decode(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{what} is malformed: {error}") from error


def _refuse_schema1(document: _Document, media_type: str, what: str) -> None:
    if document.schema_version == 1 or bytes(document.fs_layers) or media_type in SCHEMA1:
        raise FormatError(
            f"{what} is in Docker's schema 1 format of before 2016, which is not supported: "
            "push it again with a current tool (skopeo copy --format v2s2, docker pull and push)"
        )


def _agreed_type(document: _Document, media_type: str, what: str) -> str:
    own = document.media_type or ""
    known = media_type in INDEXES or media_type in MANIFESTS
    if known and own and own != media_type:
        raise FormatError(f"{what} came as {media_type!r} but says it is {own!r}")
    if known:
        return media_type
    if own:
        return own
    return MediaType.OCI_INDEX if document.manifests is not None else MediaType.OCI_MANIFEST
