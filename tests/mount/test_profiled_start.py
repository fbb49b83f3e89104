"""Roots that were really converted with a boot profile, started on a node that has nothing."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.boots import boot_of, root_record
from tests.support.convert_command import convert
from tests.support.converted import recipe_of
from tests.support.faulty_http import FaultyServer
from tests.support.layouts import make_layout, tar_layer
from tests.support.lazy import HeldFiles
from tests.support.sites import Site
from thinfs.store.layout import object_path
from thinfs.store.profiles import Profile, Touched, render_profile

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.mount

MIB = 1 << 20
LIBRARY = random.Random(1).randbytes(4 * MIB)
# More names than a node takes whole before it mounts, of bodies that do not compress.
MANY = {f"usr/lib/p{i:03d}/m{j}.py": os.urandom(600) for i in range(600) for j in range(12)}
FILES = {**MANY, "usr/lib/big.so": LIBRARY}
START = [f"usr/lib/p{i:03d}/m{i % 12}.py" for i in range(0, 600, 25)]
TOUCHED = (MIB - 10_000, 50_000)


def profile() -> Profile:
    touched = [Touched(hashlib.sha256(FILES[path]).hexdigest(), path) for path in START]
    library = hashlib.sha256(LIBRARY).hexdigest()
    touched.insert(3, Touched(library, "usr/lib/big.so", 0, (TOUCHED,)))
    return Profile(1, "sha256:" + "c" * 64, "x", 1, 9, tuple(touched))


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A repository with the image, and the image's recipe."""
    folder = tmp_path_factory.mktemp("origin")
    make_layout(folder / "in", "x", [tar_layer(FILES)])
    (folder / "profile").write_bytes(render_profile(profile()))
    repository = folder / "repository"
    done = convert(repository, f"oci:{folder}/in:x", "--profile", folder / "profile")
    return repository, json.dumps(recipe_of(repository / "oci", done["name"]))


class World:
    """The image behind a server, and a node that may read from it."""

    def __init__(self, folder: Path, repository: Path, recipe: str) -> None:
        self.boot = boot_of(repository)
        self.files = HeldFiles(repository)
        self.server = FaultyServer(self.files)
        self.text = recipe.replace(repository.as_uri(), self.server.url)
        sources = {"allow": [self.server.url], "read_timeout_s": 10.0}
        self.site = Site(folder, sources=sources, daemon={"root_mode": "native"})

    def object_paths(self, numbers: set[int]) -> set[str]:
        return {object_path(bytes.fromhex(self.boot.objects[each].digest)) for each in numbers}


@pytest.fixture
def world(folder: Path, origin: tuple[Path, str]) -> Iterator[World]:
    made = World(folder, *origin)
    with made.server:
        yield made
        made.files.let_go()


def part_of(path: Path, offset: int, length: int) -> bytes:
    """Read no more than is asked for."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(file.fileno(), length, offset)


def test_a_start_needs_nothing_but_what_its_boot_record_orders(world: World) -> None:
    in_order = world.object_paths(set(world.boot.order))
    elsewhere = set(world.files.below("objects")) - in_order
    world.files.hold(elsewhere | set(world.files.below("catalogs")))
    with world.site.daemon(), world.site.client() as client:
        root = Path(client.attach("one", world.text).directory)
        for path in START:
            assert (root / path).read_bytes() == FILES[path], path
        offset, length = TOUCHED
        assert part_of(root / "usr/lib/big.so", offset, length) == LIBRARY[offset:][:length]
        assert in_order <= set(world.files.asked)
        assert not list((world.site.cache / "catalogs").rglob("*/*"))
        world.files.let_go()


def test_everything_else_is_as_it_was_converted(world: World) -> None:
    with world.site.daemon(), world.site.client() as client:
        root = Path(client.attach("one", world.text).directory)
        for path, body in FILES.items():
            assert (root / path).read_bytes() == body, path
    assert len(world.files.asked) == len(set(world.files.asked)), "nothing is fetched twice"


def test_the_metadata_of_a_start_is_a_part_of_the_image(origin: tuple[Path, str]) -> None:
    repository, _ = origin
    boot, stored = boot_of(repository), root_record(repository)["metadata"]["stored_size"]
    metadata = {each.object for each in boot.metadata.extents} & set(boot.order)
    assert 0 < sum(boot.objects[each].stored_size for each in metadata) < stored / 2
