"""A whole conversion as a user orders it: which images, into which repository, delivered where."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from thinfs.convert.choosing import kept_profile, read_profile
from thinfs.convert.image import ConvertedImage, ImageProgress, convert_image, workshop
from thinfs.convert.root import BootWish
from thinfs.oci.delivery import import_into_containerd, push, write_layout
from thinfs.oci.kept import record_image
from thinfs.oci.reference import parse_reference
from thinfs.oci.source import open_source
from thinfs.oci.thin import ThinImage, ThinIndex, build_thin_image, build_thin_index
from thinfs.store.layout import IMAGES_DIRECTORY
from thinfs.store.local import LocalRepository
from thinfs.store.shelf import ProfileShelf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.config import RegistryConfig
    from thinfs.convert.layer import Workshop
    from thinfs.oci.model import Image, Platform
    from thinfs.oci.source import ImageSource
    from thinfs.store.profiles import Profile


@dataclass(frozen=True, slots=True)
class Containerd:
    """A containerd on this machine.

    Attributes:
        address: its socket.
        namespace: where images go.
    """

    address: Path
    namespace: str


@dataclass(frozen=True, slots=True)
class Goals:
    """Where a thin image is to be brought, besides the repository's own layout.

    Attributes:
        push: registry reference to push it to.
        layout: OCI layout directory and tag to write it to.
        containerd: where to import it.
    """

    push: str | None = None
    layout: tuple[Path, str] | None = None
    containerd: Containerd | None = None


NOWHERE: Final = Goals()


@dataclass(frozen=True, slots=True)
class Job:
    """What is wanted.

    Attributes:
        image: registry reference, ``oci:DIR[:TAG]``, ``oci-archive:FILE`` or
            ``docker-archive:FILE``.
        repository: directory of the repository; made when there is none.
        url: the repository's address as recipes carry it.
        platforms: which images of an index, best match for each; ``None`` for all of them.
        name: canonical name of the thin image; ``None`` for the image's with ``-thin``.
        threads: how many threads compress; ``None`` for one a processor.
        level: zstd level of objects, 1 to 19.
        goals: where the thin image is to be brought.
        profile: file of the boot profile to convert with, which becomes the image's own;
            ``auto`` for what the repository knows, ``None`` for none.
    """

    image: str
    repository: Path
    url: str
    platforms: tuple[Platform, ...] | None
    name: str | None
    threads: int | None
    level: int
    goals: Goals = NOWHERE
    profile: Path | Literal["auto"] | None = "auto"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done.

    Attributes:
        name: canonical name of the thin image.
        digest: of its manifest, or of its index when there are several platforms.
        images: one for each platform.
        places: where the thin image is now, for people.
        seconds: of the whole job.
    """

    name: str
    digest: str
    images: tuple[ConvertedImage, ...]
    places: tuple[str, ...]
    seconds: float


def run(job: Job, registry: RegistryConfig, progress: ImageProgress) -> Outcome:
    """Convert and deliver.

    Nothing is delivered, and no name exists, unless every platform's image was converted.

    Raises:
        ThinfsError: of any kind; what was stored before stays and shortens the next try.
    """
    started = time.monotonic()
    named = read_profile(job.profile) if isinstance(job.profile, Path) else None
    repository = LocalRepository.open_or_create(job.repository)
    shelf = ProfileShelf(job.repository)
    source = open_source(job.image, registry)
    try:
        images = source.images(job.platforms)
        with workshop(repository, threads=job.threads, level=job.level) as shop:
            converted = tuple(
                _convert(image, source, shop, job, progress, wish=_wish(image, job, named, shelf))
                for image in images
            )
            thin = _thin(converted, several=job.platforms is None)
            name = job.name or parse_reference(images[0].reference).thin().canonical
            # Inside the workshop: what the image needs must not be collected before it has a name.
            record_image(repository.path, thin, name, int(time.time()))
    finally:
        source.close()
    places = (place_in(job.repository, name), *deliver(thin, name, job.goals, registry))
    return Outcome(name, thin.digest, converted, places, time.monotonic() - started)


def _wish(image: Image, job: Job, named: Profile | None, shelf: ProfileShelf) -> BootWish:
    if job.profile == "auto":
        return kept_profile(image, shelf)
    return BootWish(named)


def _convert(
    image: Image,
    source: ImageSource,
    shop: Workshop,
    job: Job,
    progress: ImageProgress,
    *,
    wish: BootWish,
) -> ConvertedImage:
    """Convert an image; the profile that it was converted with is its own from then on."""
    converted = convert_image(image, source, shop, job.url, progress, wish=wish)
    if wish.profile is not None:
        ProfileShelf(job.repository).put(image.chain_id, wish.profile)
    return converted


def _thin(converted: Sequence[ConvertedImage], *, several: bool) -> ThinImage | ThinIndex:
    made = [build_thin_image(each.image, each.recipe) for each in converted]
    return build_thin_index(made) if several else made[0]


def deliver(
    thin: ThinImage | ThinIndex, name: str, goals: Goals, registry: RegistryConfig
) -> tuple[str, ...]:
    """Bring a thin image where it is wanted; gives the places, for people.

    Raises:
        ThinfsError: as the functions of :mod:`thinfs.oci.delivery`.
    """
    places = []
    if goals.layout is not None:
        directory, tag = goals.layout
        write_layout(thin, directory, tag)
        places.append(f"oci:{directory}:{tag}")
    if goals.push is not None:
        push(thin, parse_reference(goals.push), registry)
        places.append(parse_reference(goals.push).canonical)
    if goals.containerd is not None:
        address, namespace = goals.containerd.address, goals.containerd.namespace
        import_into_containerd(thin, name, namespace=namespace, address=address)
        places.append(f"containerd {address}, namespace {namespace}: {name}")
    return tuple(places)


def place_in(repository: Path, name: str) -> str:
    """Where a repository's own layout has an image, for people."""
    return f"oci:{repository / IMAGES_DIRECTORY}:{name}"
