from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from snapshotter import directories
from snapshotter.directories import Owner
from snapshotter.model import Usage
from snapshotter.mounts import Layout

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(layout: Layout, umask: int) -> None:
    before = os.umask(umask)
    try:
        directories.make(layout, 1, writable=True, owner=None)
    finally:
        os.umask(before)
    assert (mode(layout.home(1)), mode(layout.fs(1)), mode(layout.work(1))) == (
        0o700,
        0o755,
        0o711,
    )


def test_a_read_only_snapshot_has_no_work_directory(layout: Layout) -> None:
    directories.make(layout, 1, writable=False, owner=None)
    assert not layout.work(1).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files away")
def test_the_owner_is_taken_over_and_the_mode_stays(layout: Layout) -> None:
    directories.make(layout, 1, writable=True, owner=Owner(12, 34))
    assert Owner.of(layout.fs(1)) == Owner(12, 34)
    assert mode(layout.fs(1)) == 0o755
    assert mode(layout.work(1)) == 0o711


def test_usage_counts_a_file_with_many_links_once(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "a").write_bytes(b"x" * 100_000)
    before = directories.usage(tree)
    os.link(tree / "a", tree / "d" / "b")
    (tree / "s").symlink_to("/nowhere")
    after = directories.usage(tree)
    assert before.inodes == 3
    assert before.size_bytes >= 100_000
    assert after.inodes == before.inodes + 1


def test_usage_of_what_disappeared_is_nothing(tmp_path: Path) -> None:
    assert directories.usage(tmp_path / "gone") == Usage(0, 0)


def test_deleting_what_is_gone_is_no_error(tmp_path: Path) -> None:
    assert directories.delete(tmp_path / "gone")


@pytest.mark.expects_log("cannot delete .*/file, will try again")
def test_what_cannot_be_deleted_is_left_for_later(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    assert not directories.delete(tmp_path / "file")


@pytest.mark.parametrize(
    ("uid_map", "has_index", "wanted"),
    [
        ("0 0 4294967295", True, ("index=off",)),
        ("0 0 4294967295", False, ()),
        ("0 1000 1", True, ("userxattr", "index=off")),
        ("0 1000 1\n1 100000 65536", False, ("userxattr",)),
    ],
)
def test_overlay_options_are_what_this_machine_needs_and_nothing_more(
    tmp_path: Path, uid_map: str, has_index: bool, wanted: tuple[str, ...]
) -> None:
    (tmp_path / "map").write_text(f"         {uid_map}\n")
    (tmp_path / "overlay/parameters").mkdir(parents=True)
    if has_index:
        (tmp_path / "overlay/parameters/index").write_text("Y\n")
    assert directories.overlay_options(tmp_path, tmp_path / "map") == wanted


def test_an_overlay_upon_a_thin_root_has_one_device_number_where_the_kernel_can(
    tmp_path: Path,
) -> None:
    assert directories.thin_overlay_options(tmp_path) == ()
    (tmp_path / "overlay/parameters").mkdir(parents=True)
    (tmp_path / "overlay/parameters/xino_auto").write_text("N\n")
    assert directories.thin_overlay_options(tmp_path) == ("xino=on",)
