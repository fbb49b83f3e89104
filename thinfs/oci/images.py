"""From the descriptor a name stands for to the images it holds, wherever the bytes are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from thinfs.errors import FormatError, MissingError
from thinfs.oci.digest import verify
from thinfs.oci.manifest import (
    ATTESTATION,
    Config,
    Index,
    Manifest,
    pair_layers,
    parse_config,
    parse_document,
)
from thinfs.oci.model import (
    INDEXES,
    MAX_CONFIG_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_INDEX_DEPTH,
    MAX_INDEX_ENTRIES,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Image,
    Platform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Fetch = Callable[[Descriptor], bytes]
    """Gives the bytes a descriptor names; need not verify them, must not read beyond size."""

log = logging.getLogger(__name__)


def read_images(
    name: str, root: Descriptor, fetch: Fetch, platforms: Sequence[Platform] | None
) -> list[Image]:
    """Read the images below a manifest or index, for some platforms or for all of Linux.

    Args:
        name: canonical name of the image, for the result and for messages.
        root: the manifest or index that the name stands for.
        fetch: gives manifests and configurations.
        platforms: one image is given for each, in this order, each image once; ``None``
            means every Linux platform. Attestations and other artifacts are left out.

    Raises:
        MissingError: a platform has no image; the message lists those that there are.
        FormatError: a document is malformed, too large, or of an unsupported type.
        IntegrityError: a document has another digest than it was named by.
    """
    reader = _Reader(name, fetch)
    candidates = reader.candidates(root)
    if platforms is None:
        chosen = [found for found in candidates if found[0].os == "linux"]
        if not chosen:
            raise MissingError(f"{name} holds no image for Linux")
    else:
        chosen = [_choose(name, wanted, candidates) for wanted in platforms]
    images = {
        descriptor.digest: reader.image(platform, descriptor) for platform, descriptor in chosen
    }
    return list(images.values())


def _choose(
    name: str, wanted: Platform, candidates: Sequence[tuple[Platform, Descriptor]]
) -> tuple[Platform, Descriptor]:
    offered = [platform for platform, _ in candidates]
    best = wanted.best_of(offered)
    if best is None:
        listed = ", ".join(sorted({str(platform) for platform in offered})) or "nothing"
        raise MissingError(f"{name} has no image for {wanted}, only for {listed}: see --platform")
    return candidates[offered.index(best)]


class _Reader:
    """Documents of one name, each fetched once."""

    def __init__(self, name: str, fetch: Fetch) -> None:
        self._name = name
        self._fetch = fetch
        self._kept: dict[str, bytes] = {}
        self._held_bytes = 0
        self._visited = 0

    def candidates(self, root: Descriptor) -> list[tuple[Platform, Descriptor]]:
        """Every image below ``root`` with its platform, in the order of the indexes."""
        document = self._document(root)
        if isinstance(document, Manifest):
            if not document.is_image:
                kind = document.config.media_type
                raise FormatError(f"{self._name} is no container image but an artifact of {kind!r}")
            return [(self._config(document).platform, root)]
        found: list[tuple[Platform, Descriptor]] = []
        self._walk(document, 1, found)
        return found

    def image(self, platform: Platform, descriptor: Descriptor) -> Image:
        manifest = self._document(descriptor)
        if not isinstance(manifest, Manifest) or not manifest.is_image:
            raise FormatError(f"{self._name}: {descriptor.digest} is no container image")
        config = self._config(manifest)
        if (config.platform.os, config.platform.architecture) != (
            platform.os,
            platform.architecture,
        ):
            # some builders cross-compile and leave their own platform in the configuration
            log.info("%s: index says %s, config %s", self._name, platform, config.platform)
        return Image(
            reference=self._name,
            manifest_digest=descriptor.digest,
            platform=platform,
            config=self._bytes(manifest.config, MAX_CONFIG_BYTES),
            layers=pair_layers(manifest, config, self._name),
        )

    def _walk(self, index: Index, depth: int, found: list[tuple[Platform, Descriptor]]) -> None:
        if depth > MAX_INDEX_DEPTH:
            raise FormatError(f"{self._name}: indexes are nested deeper than {MAX_INDEX_DEPTH}")
        for entry in index.manifests:
            self._visited += 1
            if self._visited > MAX_INDEX_ENTRIES:
                raise FormatError(f"{self._name} holds more than {MAX_INDEX_ENTRIES} manifests")
            if _is_attestation(entry):
                continue
            if entry.platform is not None and entry.media_type not in INDEXES:
                found.append((entry.platform, entry))
                continue
            document = self._document(entry)
            if isinstance(document, Index):
                self._walk(document, depth + 1, found)
            elif document.is_image:
                found.append((entry.platform or self._config(document).platform, entry))

    def _document(self, descriptor: Descriptor) -> Manifest | Index:
        data = self._bytes(descriptor, MAX_MANIFEST_BYTES)
        return parse_document(data, descriptor.media_type, self._name)

    def _config(self, manifest: Manifest) -> Config:
        return parse_config(self._bytes(manifest.config, MAX_CONFIG_BYTES), self._name)

    def _bytes(self, descriptor: Descriptor, limit: int) -> bytes:
        if descriptor.size > limit:
            raise FormatError(
                f"{self._name}: {descriptor.digest} is {descriptor.size} bytes, more than {limit}"
            )
        if descriptor.digest not in self._kept:
            self._held_bytes += descriptor.size
            if self._held_bytes > MAX_DOCUMENT_BYTES:
                raise FormatError(
                    f"{self._name}: more than {MAX_DOCUMENT_BYTES} bytes of manifests"
                )
            what = f"{self._name}: {descriptor.media_type}"
            self._kept[descriptor.digest] = verify(self._fetch(descriptor), descriptor.digest, what)
        return self._kept[descriptor.digest]


def _is_attestation(entry: Descriptor) -> bool:
    platform = entry.platform
    return ATTESTATION in entry.annotations or (
        platform is not None and (platform.os, platform.architecture) == ("unknown", "unknown")
    )
