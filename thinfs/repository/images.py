"""Thin images as a repository holds them: every blob below a name, and what the recipes say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thinfs.errors import FormatError, MissingError, StoreError
from thinfs.oci.digest import hex_of, verify
from thinfs.oci.kept import named_images
from thinfs.oci.layout import BLOBS
from thinfs.oci.manifest import Index, Manifest, parse_document
from thinfs.oci.model import (
    MAX_CONFIG_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_INDEX_DEPTH,
    MAX_INDEX_ENTRIES,
    MAX_MANIFEST_BYTES,
    Compression,
    layer_compression,
)
from thinfs.oci.recipe import parse_recipe
from thinfs.oci.reference import parse_reference
from thinfs.roots.recipes import MAX_LAYER_BYTES, recipe_in_layer
from thinfs.store.layout import IMAGES_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thinfs.oci.kept import NamedImage
    from thinfs.oci.model import Descriptor
    from thinfs.oci.recipe import Recipe

    Fetch = Callable[[Descriptor], bytes]
    """Gives the bytes a descriptor names; need not verify them."""

MAX_BLOBS: Final = 3 * MAX_INDEX_ENTRIES
"""Most blobs below one name: manifest, configuration and layer of each platform."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A thin image, or several under one index.

    Attributes:
        name: as the layout has it.
        root: what the name stands for.
        blobs: all blobs, verified, each after those that it names.
        recipes: of each platform, in the order of the index.
    """

    name: str
    root: Descriptor
    blobs: tuple[tuple[Descriptor, bytes], ...]
    recipes: tuple[Recipe, ...]


def read_image(name: str, root: Descriptor, fetch: Fetch) -> StoredImage:
    """Read everything below a manifest or an index.

    Args:
        name: for the result and for messages.
        root: what the name stands for.
        fetch: gives blobs.

    Raises:
        FormatError: something below it is no thin image, or is too large.
        IntegrityError: a blob has another digest than it was named by.
        MissingError: a blob is not there.
    """
    reader = _Reader(name, fetch)
    reader.document(root, 0)
    return StoredImage(name, root, tuple(reader.blobs.values()), tuple(reader.recipes))


def find_image(repository: Path, text: str) -> NamedImage:
    """The image of a repository that a user means, also by its original's name.

    Raises:
        MissingError: there is none; the message lists those that there are.
        UsageError: ``text`` is no name of an image.
    """
    known = {image.name: image for image in named_images(repository) if image.name}
    if text in known:
        return known[text]
    reference = parse_reference(text)
    for name in (reference.canonical, reference.thin().canonical):
        if name in known:
            return known[name]
    listed = ", ".join(sorted(known)[:20]) or "none"
    raise MissingError(f"{repository} has no image {text}; it has: {listed}")


def stored_image(repository: Path, name: str, root: Descriptor) -> StoredImage:
    """:func:`read_image` from the layout of a repository's directory."""
    return read_image(name, root, lambda descriptor: read_blob(repository, descriptor))


def blob_path(digest: str) -> str:
    """Path of a layout's blob below the repository."""
    return f"{IMAGES_DIRECTORY}/{BLOBS}/{hex_of(digest)}"


def read_blob(repository: Path, descriptor: Descriptor) -> bytes:
    """A blob's bytes as they are, one byte more than it should have at most.

    Raises:
        MissingError: it is not there.
        StoreError: it cannot be read.
    """
    path = repository / blob_path(descriptor.digest)
    try:
        with path.open("rb") as file:
            return file.read(descriptor.size + 1)
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


class _Reader:
    """Walks down from a name; what is found last names what was found before."""

    def __init__(self, name: str, fetch: Fetch) -> None:
        self._name = name
        self._fetch = fetch
        self._held_bytes = 0
        self.blobs: dict[str, tuple[Descriptor, bytes]] = {}
        self.recipes: list[Recipe] = []

    def document(self, descriptor: Descriptor, depth: int) -> None:
        if depth > MAX_INDEX_DEPTH or len(self.blobs) > MAX_BLOBS:
            raise FormatError(f"{self._name}: more indexes or manifests than an image can have")
        data = self._read(descriptor, MAX_MANIFEST_BYTES)
        document = parse_document(data, descriptor.media_type, self._name)
        if isinstance(document, Index):
            for entry in document.manifests:
                self.document(entry, depth + 1)
        else:
            self._manifest(document)
        self.blobs.setdefault(descriptor.digest, (descriptor, data))

    def _manifest(self, manifest: Manifest) -> None:
        if not manifest.is_image or len(manifest.layers) != 1:
            raise FormatError(f"{self._name} is no thin image")
        [layer] = manifest.layers
        data = self._read(layer, MAX_LAYER_BYTES)
        compression = layer_compression(layer.media_type) or Compression.NONE
        self.recipes.append(parse_recipe(recipe_in_layer(data, compression, self._name)))
        config = self._read(manifest.config, MAX_CONFIG_BYTES)
        self.blobs.setdefault(layer.digest, (layer, data))
        self.blobs.setdefault(manifest.config.digest, (manifest.config, config))

    def _read(self, descriptor: Descriptor, limit: int) -> bytes:
        if descriptor.digest in self.blobs:
            return self.blobs[descriptor.digest][1]
        self._held_bytes += descriptor.size
        if descriptor.size > limit or self._held_bytes > MAX_DOCUMENT_BYTES:
            raise FormatError(f"{self._name} is no thin image: {descriptor.size} bytes in a blob")
        what = f"{self._name}: blob {descriptor.digest}"
        return verify(self._fetch(descriptor), descriptor.digest, what)
