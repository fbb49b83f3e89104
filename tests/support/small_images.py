"""Many small images that share much, and repositories made of them in this process."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.support.layouts import make_layout, tar_layer
from thinfs.config import RegistryConfig
from thinfs.convert.job import Job, Outcome, run
from thinfs.oci.model import Platform

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Silent:
    """Hears of a conversion and says nothing."""

    def layer(self, digest: str, size: int, *, present: bool) -> None: ...

    def advance(self, digest: str, compressed_bytes: int) -> None: ...

    def merging(self) -> None: ...


def make_images(layout: Path, count: int) -> list[str]:
    """Write images ``0`` to ``count - 1`` into a layout; gives their names.

    Each has one of three base layers and a layer of its own, whose files are partly those of
    its neighbours, of all sizes from some bytes to more than an object.
    """
    bases = [tar_layer(_files(f"base{number}", 20)) for number in range(3)]
    for number in range(count):
        own = {f"app/own{k}": body for k, body in enumerate(_bodies(f"own{number}", 4))}
        near = {f"app/near{k}": body for k, body in enumerate(_bodies(f"near{number // 4}", 4))}
        far = {f"app/far{k}": body for k, body in enumerate(_bodies(f"far{number % 5}", 4))}
        layers = [bases[number % 3], tar_layer({**own, **near, **far})]
        make_layout(layout, str(number), layers, compression="none")
    return [f"oci:{layout}:{number}" for number in range(count)]


def convert_here(
    repository: Path,
    image: str,
    name: str | None = None,
    url: str | None = None,
    profile: Path | None = None,
) -> Outcome:
    """Convert without a process of its own."""
    job = Job(
        image=image,
        repository=repository,
        url=url or repository.as_uri(),
        platforms=(Platform.host(),),
        name=name or image_name(image),
        threads=1,
        level=1,
        profile=profile,
    )
    return run(job, RegistryConfig(hosts_dirs=[]), Silent())


def convert_all(repository: Path, images: Sequence[str]) -> None:
    """Convert several."""
    for image in images:
        convert_here(repository, image)


def image_name(image: str) -> str:
    """What the thin image of ``oci:DIR:TAG`` is called here."""
    return f"example.org/image:{image.rpartition(':')[2]}-thin"


def _files(seed: str, count: int) -> dict[str, bytes]:
    return {f"{seed}/f{number}": body for number, body in enumerate(_bodies(seed, count))}


def _bodies(seed: str, count: int) -> list[bytes]:
    rng = random.Random(seed)
    sizes = (20, 900, 5_000, 30_000, 140_000)
    bodies = [rng.randbytes(rng.choice(sizes)) for _ in range(count)]
    if seed.endswith("0"):
        bodies[0] = rng.randbytes(1_300_000)
    return bodies
