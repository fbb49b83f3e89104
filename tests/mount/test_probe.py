"""What the probe says on a real kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.sweep import mounts_below
from thinfs.errors import StoreError
from thinfs.roots.kernel import Backing, mount_image, mount_overlay
from thinfs.roots.layers import Layers
from thinfs.roots.places import sweep
from thinfs.roots.probe import WAYS, Ability, probe

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mount


@pytest.fixture
def places(folder: Path) -> tuple[Path, Path]:
    """Where the cache is, and where roots are to be mounted."""
    for name in ("cache", "mounts"):
        (folder / name).mkdir()
    return folder / "cache", folder / "mounts"


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_way_works_on_this_kernel_and_leaves_nothing(
    places: tuple[Path, Path], way: Ability
) -> None:
    assert probe(*places, ways=[way]) == way
    assert [list(place.iterdir()) for place in places] == [[], []]
    assert mounts_below(places[1]) == []


def test_the_best_way_is_the_first_that_works(places: tuple[Path, Path]) -> None:
    assert probe(*places) == Ability(Backing.FILE, Layers.DIRECT)


def test_where_overlays_stand_on_overlays_already_the_reason_is_the_kernels(
    places: tuple[Path, Path], folder: Path
) -> None:
    cache, mounts = places
    lower = cache
    for depth in ("1", "2"):
        upper, work, merged = (folder / f"{name}{depth}" for name in ("u", "w", "m"))
        for part in (upper, work, merged):
            part.mkdir()
        options = [f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}"]
        mount_overlay(merged, options, read_only=False)
        lower = merged
    with pytest.raises(StoreError, match="mounting an overlay with data-only layers: Invalid arg"):
        probe(lower, mounts)
    assert mounts_below(mounts) == []


def test_what_is_no_image_is_refused_by_the_kernel(folder: Path) -> None:
    (folder / "image").write_bytes(bytes(8192))
    (folder / "at").mkdir()
    for backing in Backing:
        with pytest.raises(StoreError, match="mounting a metadata image"):
            mount_image(folder / "image", folder / "at", backing)


def test_what_a_killed_probe_left_is_swept(places: tuple[Path, Path], folder: Path) -> None:
    left = places[1] / "probe-x"
    for name in ("u", "w", "t", "l"):
        (left / name).mkdir(parents=True)
    options = [f"lowerdir={left}/l", f"upperdir={left}/u", f"workdir={left}/w"]
    mount_overlay(left / "t", options, read_only=False)
    (left / "t/f").write_bytes(b"x")
    sweep(places[1])
    assert list(places[1].iterdir()) == []
    assert mounts_below(folder) == []
