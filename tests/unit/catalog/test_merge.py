from __future__ import annotations

import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from catalog.check import check
from catalog.errors import DamagedCatalog, InvalidEntry
from catalog.model import TreeKind
from catalog.reader import CatalogReader
from tests.support.catalogs import (
    OBJECT,
    described,
    directory,
    file,
    hardlink,
    merge_files,
    merged_tree,
    opaque,
    symlink,
    whiteout,
    write_layer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from catalog.model import Entry


def names(folder: Path, *layers: Sequence[Entry]) -> list[bytes]:
    """The paths of the merged root, which must be sound."""
    tree = merged_tree(folder, *layers)
    assert check(folder / "root") == []
    return list(tree)[1:]


def owner(folder: Path, path: bytes) -> int:
    with CatalogReader.open(folder / "root") as reader:
        node = reader.resolve(path)
    assert node is not None
    return node.uid


def inode(folder: Path, path: bytes) -> tuple[int, int]:
    """Number and link count."""
    with CatalogReader.open(folder / "root") as reader:
        node = reader.resolve(path)
    assert node is not None
    return node.ino, node.nlink


def test_no_layers_are_an_empty_root(tmp_path: Path) -> None:
    assert names(tmp_path) == []


def test_upper_layers_add_and_replace(tmp_path: Path) -> None:
    lower = [file(b"d/a", b"1"), file(b"d/b", b"2"), file(b"x")]
    upper = [file(b"d/b", b"new"), file(b"d/c"), directory(b"x")]
    assert names(tmp_path, lower, upper) == [b"d", b"d/a", b"d/b", b"d/c", b"x"]
    assert stat.S_ISDIR(described(tmp_path / "root")[b"x"][0])  # type: ignore[arg-type] # a mode


def test_a_whiteout_removes_what_lower_layers_have(tmp_path: Path) -> None:
    lower = [file(b"d/a"), file(b"d/e/b"), file(b"keep")]
    assert names(tmp_path, lower, [whiteout(b"d/e"), whiteout(b"d/a")]) == [b"d", b"keep"]


def test_whiteouts_of_the_base_vanish(tmp_path: Path) -> None:
    assert names(tmp_path, [whiteout(b"d/x"), opaque(b"o"), file(b"f")]) == [b"d", b"f", b"o"]


def test_what_was_removed_can_come_back_empty(tmp_path: Path) -> None:
    layers = [file(b"d/old")], [whiteout(b"d")], [directory(b"d")]
    assert names(tmp_path, *layers) == [b"d"]


def test_an_opaque_directory_hides_lower_children_but_not_its_own(tmp_path: Path) -> None:
    lower = [directory(b"d", uid=5), file(b"d/old"), file(b"d/e/old")]
    assert names(tmp_path, lower, [opaque(b"d"), file(b"d/new")]) == [b"d", b"d/new"]
    assert owner(tmp_path, b"d") == 5


def test_an_opaque_root_hides_everything_below_it(tmp_path: Path) -> None:
    layers = [directory(b"", uid=3), file(b"a")], [opaque(b""), file(b"b")]
    assert names(tmp_path, *layers) == [b"b"]
    assert owner(tmp_path, b"") == 3


def test_a_file_in_between_cuts_directories_apart(tmp_path: Path) -> None:
    layers = [file(b"d/old")], [file(b"d")], [directory(b"d"), file(b"d/new")]
    assert names(tmp_path, *layers) == [b"d", b"d/new"]


def test_an_implied_directory_has_the_attributes_of_the_topmost_that_is_named(
    tmp_path: Path,
) -> None:
    layers = [directory(b"d", uid=1)], [directory(b"d", uid=2)], [file(b"d/f")], [file(b"d/g")]
    names(tmp_path, *layers)
    assert owner(tmp_path, b"d") == 2


def test_a_whiteout_and_paths_below_it_make_a_new_directory(tmp_path: Path) -> None:
    layers = [directory(b"d", uid=1), file(b"d/old")], [whiteout(b"d"), file(b"d/new")]
    assert names(tmp_path, *layers) == [b"d", b"d/new"]
    assert owner(tmp_path, b"d") == 0


def test_hard_links_of_one_layer_survive_across_directories(tmp_path: Path) -> None:
    lower = [file(b"a/f", b"x"), hardlink(b"b/g", b"a/f"), hardlink(b"c/h", b"a/f")]
    names(tmp_path, lower, [whiteout(b"c/h")])
    assert inode(tmp_path, b"a/f") == inode(tmp_path, b"b/g")
    assert inode(tmp_path, b"a/f")[1] == 2


def test_a_link_to_a_file_of_a_lower_layer_shares_its_inode(tmp_path: Path) -> None:
    names(tmp_path, [file(b"z/f", b"x")], [file(b"other")], [hardlink(b"a", b"z/f")])
    assert inode(tmp_path, b"a") == inode(tmp_path, b"z/f")
    assert inode(tmp_path, b"a")[1] == 2


def test_a_link_keeps_a_file_that_its_layer_removes(tmp_path: Path) -> None:
    layers = [file(b"f", b"old")], [hardlink(b"kept", b"f"), whiteout(b"f")], [file(b"kept2")]
    assert names(tmp_path, *layers) == [b"kept", b"kept2"]
    assert inode(tmp_path, b"kept")[1] == 1


def test_links_to_links_lead_to_the_file(tmp_path: Path) -> None:
    layers = (
        [file(b"f", b"x")],
        [hardlink(b"g", b"f")],
        [hardlink(b"h", b"g"), hardlink(b"i", b"h")],
    )
    names(tmp_path, *layers)
    assert {inode(tmp_path, name) for name in (b"f", b"g", b"h", b"i")} == {inode(tmp_path, b"f")}
    assert inode(tmp_path, b"f")[1] == 4


def test_a_link_before_its_file_in_the_tar_finds_it(tmp_path: Path) -> None:
    names(tmp_path, [hardlink(b"g", b"f"), file(b"f", b"x")])
    assert inode(tmp_path, b"g") == inode(tmp_path, b"f")


def test_a_link_means_the_file_of_the_layers_below_when_they_have_it(tmp_path: Path) -> None:
    tree = merged_tree(tmp_path, [file(b"f", b"old")], [hardlink(b"g", b"f"), file(b"f", b"new")])
    assert tree[b"f"][3] != tree[b"g"][3]


def test_a_link_follows_symlinks_of_lower_layers_to_its_file(tmp_path: Path) -> None:
    lower = [symlink(b"lib", b"usr/lib"), file(b"usr/lib/f", b"x")]
    names(tmp_path, lower, [hardlink(b"g", b"lib/f")])
    assert inode(tmp_path, b"g") == inode(tmp_path, b"usr/lib/f")


@pytest.mark.parametrize("lower", [[], [directory(b"f")], [symlink(b"d", b"d")]])
def test_a_link_to_nothing_or_to_a_directory_is_refused(tmp_path: Path, lower: list[Entry]) -> None:
    with pytest.raises(InvalidEntry, match="layer 2 has a hard link"):
        merged_tree(tmp_path, lower, [hardlink(b"g", b"f")])
    assert not (tmp_path / "root").exists()


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidEntry):
        merged_tree(tmp_path, [hardlink(b"a", b"b"), hardlink(b"b", b"a")])


def test_paths_below_a_file_of_a_lower_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidEntry, match="layer 2 has paths below 'd'"):
        merged_tree(tmp_path, [file(b"d")], [file(b"d/f")])


@pytest.mark.parametrize("target", [b"usr/lib", b"/usr/lib", b"../usr/./lib", b"usr/x/../lib"])
def test_paths_through_a_lower_symlink_lead_where_it_points(tmp_path: Path, target: bytes) -> None:
    lower = [symlink(b"lib", target), directory(b"usr/lib", uid=4), file(b"usr/lib/a")]
    found = names(tmp_path, lower, [file(b"lib/b"), whiteout(b"lib/a"), file(b"lib/new/c")])
    assert found == [
        *(b"lib", b"usr", b"usr/lib", b"usr/lib/b"),
        *(b"usr/lib/new", b"usr/lib/new/c"),
    ]
    assert owner(tmp_path, b"usr/lib") == 4


def test_a_symlink_to_nothing_gets_its_directories(tmp_path: Path) -> None:
    found = names(tmp_path, [symlink(b"l", b"new/dir")], [file(b"l/f")])
    assert found == [b"l", b"new", b"new/dir", b"new/dir/f"]


def test_a_symlink_to_the_root_is_followed(tmp_path: Path) -> None:
    assert names(tmp_path, [symlink(b"d/l", b"/")], [file(b"d/l/f")]) == [b"d", b"d/l", b"f"]


def test_symlinks_are_followed_inside_directories_that_were_reached_by_symlinks(
    tmp_path: Path,
) -> None:
    lower = [symlink(b"a", b"b"), symlink(b"b/c", b"../d"), directory(b"d", uid=6)]
    assert names(tmp_path, lower, [file(b"a/c/f")]) == [b"a", b"b", b"b/c", b"d", b"d/f"]
    assert owner(tmp_path, b"d") == 6


def test_a_later_layer_sees_what_an_earlier_one_put_through_a_symlink(tmp_path: Path) -> None:
    lower = [symlink(b"lib", b"usr/lib"), directory(b"usr/lib")]
    found = names(tmp_path, lower, [file(b"lib/f"), file(b"lib/g")], [whiteout(b"usr/lib/f")])
    assert found == [b"lib", b"usr", b"usr/lib", b"usr/lib/g"]


def test_an_opaque_mark_does_not_hide_what_its_own_layer_brings_by_a_symlink(
    tmp_path: Path,
) -> None:
    lower = [symlink(b"lib", b"usr/lib"), file(b"usr/lib/old")]
    upper = [opaque(b"usr/lib"), file(b"lib/a"), file(b"usr/lib/b")]
    found = names(tmp_path, lower, upper)
    assert found == [b"lib", b"usr", b"usr/lib", b"usr/lib/a", b"usr/lib/b"]


def test_an_opaque_mark_goes_through_a_symlink(tmp_path: Path) -> None:
    lower = [symlink(b"lib", b"usr/lib"), file(b"usr/lib/old")]
    assert names(tmp_path, lower, [opaque(b"lib")]) == [b"lib", b"usr", b"usr/lib"]


def test_a_directory_that_is_named_replaces_a_lower_symlink(tmp_path: Path) -> None:
    lower = [symlink(b"lib", b"usr/lib"), file(b"usr/lib/a")]
    upper = [directory(b"lib"), file(b"lib/b")]
    assert names(tmp_path, lower, upper) == [b"lib", b"lib/b", b"usr", b"usr/lib", b"usr/lib/a"]


@pytest.mark.parametrize("target", [b"l", b"/l/x", b"f", b"f/x"])
def test_a_path_through_a_symlink_that_leads_to_no_directory_is_refused(
    tmp_path: Path, target: bytes
) -> None:
    with pytest.raises(InvalidEntry):
        merged_tree(tmp_path, [file(b"f"), symlink(b"l", target)], [file(b"l/g")])


def test_a_root_may_be_the_base_of_more_layers(tmp_path: Path) -> None:
    write_layer(tmp_path / "base", [directory(b"d", uid=1)], kind=TreeKind.ROOT)
    write_layer(tmp_path / "more", [file(b"d/f")])
    summary = merge_files([tmp_path / "base", tmp_path / "more"], tmp_path / "root")
    assert (summary.kind, summary.names) == (TreeKind.ROOT, 2)
    assert owner(tmp_path, b"d") == 1


def test_contents_and_attributes_come_along(tmp_path: Path) -> None:
    xattrs = ((b"security.capability", b"\1"),)
    merged_tree(
        tmp_path,
        [file(b"a", b"1", xattrs=xattrs), file(b"gone", b"2")],
        [
            *(whiteout(b"gone"), file(b"b", b"1", xattrs=xattrs), file(b"c", b"3")),
        ],
    )
    with CatalogReader.open(tmp_path / "root") as reader:
        assert reader.summary().contents == 2
        assert {content.size for _, content in reader.contents()} == {1}
        assert len(reader.contents_in(OBJECT)) == 2
        assert reader.xattrs(inode(tmp_path, b"a")[0]) == xattrs
        assert reader.xattrs(inode(tmp_path, b"b")[0]) == xattrs


def test_a_layer_without_a_root_directory_is_damage(tmp_path: Path) -> None:
    write_layer(tmp_path / "layer", [])
    db = sqlite3.connect(tmp_path / "layer", isolation_level=None)
    db.execute("DELETE FROM inode")
    db.close()
    with pytest.raises(DamagedCatalog):
        merge_files([tmp_path / "layer"], tmp_path / "root")


def test_a_directory_with_many_names_does_not_cost_more_than_its_file_is_large(
    tmp_path: Path,
) -> None:
    depth = 60
    write_layer(tmp_path / "layer", [directory(b"/".join([b"d"] * depth))])
    db = sqlite3.connect(tmp_path / "layer", isolation_level=None)
    db.execute("INSERT INTO entry SELECT parent, x'65', ino FROM entry")
    db.close()
    with pytest.raises(DamagedCatalog):
        merge_files([tmp_path / "layer"], tmp_path / "root")
