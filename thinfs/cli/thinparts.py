"""Images of a repository, taken apart for what is to be done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinfs.convert.renew import ThinParts
from thinfs.errors import MissingError
from thinfs.oci.manifest import Manifest, parse_config, parse_document
from thinfs.oci.model import INDEXES, MANIFESTS
from thinfs.repository.images import find_image, stored_image
from thinfs.store.shelf import ProfileShelf

if TYPE_CHECKING:
    from thinfs.repository.images import StoredImage
    from thinfs.store.local import LocalRepository
    from thinfs.store.profiles import Profile


def thin_parts(repository: LocalRepository, text: str) -> tuple[str, list[ThinParts], bool]:
    """The image that a user names: its canonical name, its platforms, whether it is an index.

    Raises:
        MissingError: the repository has none of that name; the message lists those it has.
        FormatError: what it has is no thin image.
    """
    image = _image(repository, text)
    blobs = {descriptor.digest: data for descriptor, data in image.blobs}
    parts = []
    recipes = iter(image.recipes)
    for descriptor, data in image.blobs:
        if descriptor.media_type not in MANIFESTS:
            continue
        document = parse_document(data, descriptor.media_type, image.name)
        if isinstance(document, Manifest):
            config = blobs[document.config.digest]
            platform = descriptor.platform or parse_config(config, image.name).platform
            parts.append(ThinParts(data, config, platform, next(recipes)))
    return image.name, parts, image.root.media_type in INDEXES


def profile_of(repository: LocalRepository, text: str) -> Profile:
    """The profile that the repository has of an image that a user names.

    Raises:
        MissingError: the repository has no such image, or no profile of it.
    """
    image = _image(repository, text)
    shelf = ProfileShelf(repository.path)
    for recipe in image.recipes:
        found = shelf.get(recipe.thinfs.root.chain_id) if recipe.thinfs else None
        if found:
            return found
    raise MissingError(f"{repository.path} has no boot profile of {image.name}")


def _image(repository: LocalRepository, text: str) -> StoredImage:
    named = find_image(repository.path, text)
    return stored_image(repository.path, named.name, named.root)
