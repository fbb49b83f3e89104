"""The values the OCI part of thinfs gives to the others: descriptors, platforms, images."""

from __future__ import annotations

import enum
import hashlib
import platform as host_platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thinfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_MANIFEST_BYTES = 4 << 20
"""Largest manifest or index that is read (the distribution spec's own advice)."""

MAX_CONFIG_BYTES = 8 << 20
"""Largest image configuration that is read."""

MAX_LAYER_BYTES = 1 << 40
"""Largest compressed layer a manifest may name."""

MAX_INDEX_ENTRIES = 1024
"""Most manifests and indexes that are looked at for one name."""

MAX_DOCUMENT_BYTES = 256 << 20
"""Most bytes of manifests, indexes and configurations that are held for one name."""

MAX_INDEX_DEPTH = 4
"""Most indexes on the way from a name to a manifest."""


class MediaType(enum.StrEnum):
    """Media types of what registries and layouts hold."""

    OCI_INDEX = "application/vnd.oci.image.index.v1+json"
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
    OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    OCI_FOREIGN_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    OCI_FOREIGN_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
    DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
    DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
    DOCKER_FOREIGN_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
    DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"


INDEXES: frozenset[str] = frozenset({MediaType.OCI_INDEX, MediaType.DOCKER_INDEX})
MANIFESTS: frozenset[str] = frozenset({MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST})
CONFIGS: frozenset[str] = frozenset({MediaType.OCI_CONFIG, MediaType.DOCKER_CONFIG})
SCHEMA1: frozenset[str] = frozenset({MediaType.DOCKER_SCHEMA1, MediaType.DOCKER_SCHEMA1_SIGNED})
FOREIGN_LAYERS: frozenset[str] = frozenset(
    {
        MediaType.OCI_FOREIGN,
        MediaType.OCI_FOREIGN_GZIP,
        MediaType.OCI_FOREIGN_ZSTD,
        MediaType.DOCKER_FOREIGN,
        MediaType.DOCKER_FOREIGN_GZIP,
    }
)


class Compression(enum.StrEnum):
    """How a layer's tar stream is packed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


_LAYERS: dict[str, Compression] = {
    MediaType.OCI_LAYER: Compression.NONE,
    MediaType.OCI_LAYER_GZIP: Compression.GZIP,
    MediaType.OCI_LAYER_ZSTD: Compression.ZSTD,
    MediaType.OCI_FOREIGN: Compression.NONE,
    MediaType.OCI_FOREIGN_GZIP: Compression.GZIP,
    MediaType.OCI_FOREIGN_ZSTD: Compression.ZSTD,
    MediaType.DOCKER_LAYER: Compression.NONE,
    MediaType.DOCKER_LAYER_GZIP: Compression.GZIP,
    MediaType.DOCKER_LAYER_ZSTD: Compression.ZSTD,
    MediaType.DOCKER_FOREIGN: Compression.NONE,
    MediaType.DOCKER_FOREIGN_GZIP: Compression.GZIP,
}


def layer_compression(media_type: str) -> Compression | None:
    """What a layer's media type says about its packing; ``None`` for what is no layer.

    Builders have been seen to write the wrong type: a reader that finds another magic number
    at the start of the blob does well to believe the blob.
    """
    return _LAYERS.get(media_type)


# containerd's platforms.Normalize: what other tools call the same thing
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
_OLDER_VARIANTS = {
    "amd64": ("v4", "v3", "v2", "v1"),
    "arm64": ("v9", "v8"),
    "arm": ("v8", "v7", "v6", "v5"),
}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on, in Go's words and in normal form (see :meth:`of`).

    Attributes:
        os: ``linux`` for all that thinfs converts.
        architecture: GOARCH: ``amd64``, ``arm64`` …
        variant: of the architecture (``v7``); empty when it is the architecture's default
            (amd64 v1, arm64 v8) or there is none. For arm it is always given.
    """

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @staticmethod
    def of(os: str, architecture: str, variant: str = "") -> Platform:
        """A platform in normal form, from names that any tool writes."""
        os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
        name, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
        variant = variant or implied
        if variant.isdigit():
            variant = f"v{variant}"
        if name == "arm":
            return Platform(os, name, variant or "v7")
        return Platform(os, name, "" if variant == _DEFAULT_VARIANTS.get(name) else variant)

    @staticmethod
    def parse(text: str) -> Platform:
        """Read ``os/architecture[/variant]``, or an architecture alone, which means Linux.

        Raises:
            UsageError: it is neither.
        """
        parts = text.split("/")
        if len(parts) == 1:
            parts = ["linux", *parts]
        good = all(part.replace("-", "").replace("_", "").isalnum() for part in parts)
        if len(parts) > 3 or not good or not text.isascii():
            raise UsageError(f"platform {text!r} is not of the form linux/amd64 or linux/arm/v7")
        return Platform.of(*parts)

    @staticmethod
    def host() -> Platform:
        """The platform of this machine."""
        return Platform.of("linux", host_platform.machine())

    def compatible(self) -> tuple[Platform, ...]:
        """Platforms whose images this one runs, best first, as ``platforms.Only`` ranks them.

        Itself, older variants of the same architecture, then the 32-bit architecture that
        the processor also runs (386 on amd64, arm on arm64).
        """
        same = [Platform.of(self.os, self.architecture, v) for v in self._older_variants()]
        found = [self, *same]
        if self.architecture == "amd64":
            found.append(Platform(self.os, "386"))
        if self.architecture == "arm64":
            found += [Platform(self.os, "arm", v) for v in _OLDER_VARIANTS["arm"]]
        return tuple(dict.fromkeys(found))

    def _older_variants(self) -> tuple[str, ...]:
        known = _OLDER_VARIANTS.get(self.architecture, ())
        own = self.variant or _DEFAULT_VARIANTS.get(self.architecture, "")
        return known[known.index(own) :] if own in known else ()

    def best_of(self, offered: Sequence[Platform]) -> Platform | None:
        """The offered platform this one runs best, or ``None``."""
        return next((wanted for wanted in self.compatible() if wanted in offered), None)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Names one blob.

    Attributes:
        media_type: what it is.
        digest: ``sha256:<hex>`` of its bytes as stored.
        size: its bytes as stored.
        annotations: as in the document that holds the descriptor.
        platform: of a manifest in an index, when the index says so.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image.

    Attributes:
        descriptor: of the blob as the source holds it.
        diff_id: digest of the uncompressed tar stream, as the config promises.
    """

    descriptor: Descriptor
    diff_id: str


@dataclass(frozen=True, slots=True)
class Image:
    """One image for one platform.

    Attributes:
        reference: its canonical name, with registry and tag or digest.
        manifest_digest: of the manifest; its bytes had this digest.
        platform: what it runs on.
        config: the configuration's bytes, verified.
        layers: base first, at most ``recipe.MAX_LAYERS``.
    """

    reference: str
    manifest_digest: str
    platform: Platform
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def chain_id(self) -> str:
        """The ChainID of all layers; of no layers, the digest of nothing."""
        return chain_id([layer.diff_id for layer in self.layers])


def chain_id(diff_ids: Sequence[str]) -> str:
    """The ChainID of a stack of layers, base first (OCI image spec, "Layer ChainID")."""
    if not diff_ids:
        return "sha256:" + hashlib.sha256(b"").hexdigest()
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = "sha256:" + hashlib.sha256(f"{chain} {diff_id}".encode()).hexdigest()
    return chain
