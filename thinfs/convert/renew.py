"""A boot profile for an image that is converted already: its recipe changes, its root does not."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from thinfs.convert.image import published_ref, workshop
from thinfs.convert.root import BootWish, with_boot
from thinfs.errors import MissingError, UsageError
from thinfs.oci.kept import record_image
from thinfs.oci.thin import ThinImage, ThinIndex, build_thin_index, renew_thin_image
from thinfs.store.layout import raw_digest
from thinfs.store.shelf import ProfileShelf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.convert.layer import Workshop
    from thinfs.oci.model import Platform
    from thinfs.oci.recipe import Recipe, RecipeRoot
    from thinfs.store.local import LocalRepository
    from thinfs.store.profiles import Profile
    from thinfs.store.records import RootRecord


@dataclass(frozen=True, slots=True)
class ThinParts:
    """A thin image for one platform, as the repository's layout holds it.

    Attributes:
        manifest: its bytes.
        config: bytes of the configuration.
        platform: what it is for.
        recipe: what its layer says.
    """

    manifest: bytes
    config: bytes
    platform: Platform
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Renewed:
    """An image that starts by a profile from now on.

    Attributes:
        thin: the thin image, which the repository names already.
        roots: records of its roots, one for each platform.
    """

    thin: ThinImage | ThinIndex
    roots: tuple[RootRecord, ...]


def apply_profile(
    repository: LocalRepository,
    name: str,
    images: Sequence[ThinParts],
    profile: Profile,
    *,
    indexed: bool,
    threads: int | None = None,
) -> Renewed:
    """Make boot records by a profile, and the thin image anew that names them.

    Nothing is read but the repository. The root stays the same to nodes, so that one which has
    it needs only the new boot record.

    Args:
        repository: that the image was converted into.
        name: canonical name of the thin image there.
        images: what the name stands for: one for each platform, in the order of the index.
        profile: becomes each image's own.
        indexed: whether the name stands for an index, be it one of a single platform.
        threads: how many compress; the machine's processors by default.

    Raises:
        MissingError: the repository does not hold the root of such an image.
        UsageError: an image has no metadata image: nodes could not use a boot record.
        ThinfsError: as :func:`thinfs.convert.boot.publish_boot`.
    """
    with workshop(repository, threads=threads) as shop:
        roots = tuple(_booted(_root_of(each.recipe, name), profile, shop) for each in images)
        shelf = ProfileShelf(repository.path)
        for root in roots:
            shelf.put(root.chain_id, profile)
        made = [
            renew_thin_image(each.manifest, each.config, each.platform, _renamed(each.recipe, root))
            for each, root in zip(images, roots, strict=True)
        ]
        thin = build_thin_index(made) if indexed else made[0]
        record_image(repository.path, thin, name, int(time.time()))
    return Renewed(thin, roots)


def _root_of(recipe: Recipe, name: str) -> RecipeRoot:
    if recipe.thinfs is None:
        raise UsageError(f"{name} was made by others: its recipe names no root")
    return recipe.thinfs.root


def _booted(root: RecipeRoot, profile: Profile, shop: Workshop) -> RootRecord:
    record = shop.repository.root_record(raw_digest(root.chain_id))
    if record is None or record.catalog.digest != root.catalog.digest:
        raise MissingError(
            f"{shop.repository.path} does not hold the root {root.chain_id[:19]} as the image names"
            " it; convert the image again"
        )
    if record.metadata is None:
        raise UsageError("the image has no metadata image; nodes start it without boot records")
    booted = with_boot(record, BootWish(profile), shop)
    if booted is None:
        raise MissingError(
            f"{shop.repository.path} lacks files of the root {root.chain_id[:19]};"
            " thinfs check --repair mends a repository"
        )
    return booted


def _renamed(recipe: Recipe, record: RootRecord) -> Recipe:
    """The recipe with the boot record that the root has now."""
    assert recipe.thinfs is not None
    boot = published_ref(record.boot) if record.boot else None
    root = msgspec.structs.replace(recipe.thinfs.root, boot=boot)
    extension = msgspec.structs.replace(recipe.thinfs, root=root)
    return msgspec.structs.replace(recipe, thinfs=extension)
