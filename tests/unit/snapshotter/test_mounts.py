from __future__ import annotations

from pathlib import Path

import pytest

from snapshotter.model import Kind, Mount
from snapshotter.mounts import Layout, is_unpacking, mounts
from thinfs.control.values import Root

LAYOUT = Layout(Path("/s"))
TREE = Root("ab", "tree", "/m/trees/ab", "/m/trees/ab", "", [])
NATIVE = Root("ab", "native", "/e/ab::/c::/m/contents", "/m/trees/ab", "", [])


@pytest.mark.parametrize(("kind", "flag"), [(Kind.ACTIVE, "rw"), (Kind.VIEW, "ro")])
def test_a_snapshot_without_parent_is_a_bind_of_its_own_files(kind: Kind, flag: str) -> None:
    assert mounts(LAYOUT, kind, 1, []) == (Mount("bind", "/s/1/fs", (flag, "rbind")),)


def test_a_view_of_one_snapshot_is_a_read_only_bind_of_it() -> None:
    assert mounts(LAYOUT, Kind.VIEW, 2, [1]) == (Mount("bind", "/s/1/fs", ("ro", "rbind")),)


def test_a_view_of_several_is_an_overlay_without_upper_directory() -> None:
    assert mounts(LAYOUT, Kind.VIEW, 3, [2, 1], options=["index=off"]) == (
        Mount("overlay", "overlay", ("index=off", "lowerdir=/s/2/fs:/s/1/fs")),
    )


def test_an_active_snapshot_is_an_overlay_with_the_nearest_parent_on_top() -> None:
    assert mounts(LAYOUT, Kind.ACTIVE, 3, [2, 1], options=["index=off"]) == (
        Mount(
            "overlay",
            "overlay",
            (
                "index=off",
                "workdir=/s/3/work",
                "upperdir=/s/3/fs",
                "lowerdir=/s/2/fs:/s/1/fs",
            ),
        ),
    )


@pytest.mark.parametrize("root", [TREE, NATIVE])
def test_a_thin_root_stands_where_the_files_of_its_layer_would(root: Root) -> None:
    (mount,) = mounts(LAYOUT, Kind.ACTIVE, 3, [2, 1], root=root)
    assert mount.options[-1] == f"lowerdir=/s/2/fs:{root.lowerdir}"
    (mount,) = mounts(LAYOUT, Kind.ACTIVE, 2, [1], root=root)
    assert mount.options[-1] == f"lowerdir={root.lowerdir}"
    (mount,) = mounts(LAYOUT, Kind.VIEW, 3, [2, 1], root=root)
    assert mount.options == (f"lowerdir=/s/2/fs:{root.lowerdir}",)


@pytest.mark.parametrize("root", [TREE, NATIVE])
def test_a_view_of_a_thin_snapshot_is_a_bind_of_the_root_as_one_directory(root: Root) -> None:
    assert mounts(LAYOUT, Kind.VIEW, 2, [1], root=root) == (
        Mount("bind", "/m/trees/ab", ("ro", "rbind")),
    )


@pytest.mark.parametrize("key", ["extract-12 sha256:ab", "default/7/extract-12 sha256:ab"])
def test_containerd_unpacks_upon_one_plain_directory(key: str) -> None:
    assert is_unpacking(key)
    (mount,) = mounts(LAYOUT, Kind.ACTIVE, 3, [2, 1], root=NATIVE, unpacking=True)
    assert mount.options[-1] == f"lowerdir=/s/2/fs:{NATIVE.directory}"


@pytest.mark.parametrize(
    "key", ["extract", "my-extract-1", "default/7/extracted", "a/b/c/extract-"]
)
def test_other_keys_are_those_of_containers(key: str) -> None:
    assert not is_unpacking(key)


def test_where_overlays_get_userxattr_a_native_root_is_one_plain_directory() -> None:
    (mount,) = mounts(LAYOUT, Kind.ACTIVE, 2, [1], root=NATIVE, options=["userxattr"])
    assert mount.options[-1] == f"lowerdir={NATIVE.directory}"


@pytest.mark.parametrize("root", [TREE, NATIVE])
def test_with_options_beyond_a_page_all_layers_are_in_one_directory(root: Root) -> None:
    parents = range(1500, 1000, -1)
    (mount,) = mounts(LAYOUT, Kind.ACTIVE, 2000, parents, root=root)
    lowers = mount.options[-1].removeprefix("lowerdir=").split(":")
    assert len(lowers) == 500
    assert {lower.split("/")[1] for lower in lowers} == {"s"}
    assert lowers[-1] == str(LAYOUT.link(2000))
