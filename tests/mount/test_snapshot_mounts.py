"""The mounts of ordinary chains, mounted for real by mount(8), behave as layers should."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from snapshotter.directories import overlay_options
from tests.support.snapshots import Bench
from tests.support.sweep import unmount_below

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from snapshotter.model import Mount

pytestmark = pytest.mark.mount


@pytest.fixture
def bench(folder: Path) -> Iterator[Bench]:
    made = Bench(folder, options=overlay_options())
    yield made
    made.close()


@contextmanager
def mounted(bench: Bench, mounts: Sequence[Mount]) -> Iterator[Path]:
    """Mount what a client was told to mount; bind mounts are read-only only when asked again."""
    (mount,) = mounts
    target = bench.root.parent / "mnt"
    target.mkdir(exist_ok=True)
    argv: list[str | Path] = [
        "mount",
        "-t",
        mount.type,
        "-o",
        ",".join(mount.options),
        mount.source,
        target,
    ]
    subprocess.run(argv, check=True, capture_output=True)
    if mount.type == "bind" and "ro" in mount.options:
        subprocess.run(["mount", "-o", "remount,bind,ro", target], check=True)
    try:
        yield target
    finally:
        unmount_below(target)


def layer(bench: Bench, name: str, parent: str) -> Iterator[Path]:
    with mounted(bench, bench.snapshotter.prepare("x", parent, {})) as root:
        yield root
    bench.snapshotter.commit(name, "x", {})


def stack(bench: Bench) -> None:
    """Three layers: files come, change and go."""
    for root in layer(bench, "one", ""):
        (root / "d").mkdir()
        for name in ("a", "b", "d/c"):
            (root / name).write_text("one")
        os.chown(root, 5, 6)
    for root in layer(bench, "two", "one"):
        (root / "a").write_text("two")
        (root / "b").unlink()
        (root / "d/c").rename(root / "d/renamed")
    for root in layer(bench, "three", "two"):
        (root / "d/renamed").unlink()
        (root / "d").rmdir()
        (root / "d").mkdir(0o700)
        (root / "b").write_text("three")


def shown(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): "" if path.is_dir() else path.read_text()
        for path in sorted(root.rglob("*"))
    }


CONTENT = {
    "one": {"a": "one", "b": "one", "d": "", "d/c": "one"},
    "two": {"a": "two", "d": "", "d/renamed": "one"},
    "three": {"a": "two", "b": "three", "d": ""},
}


@pytest.mark.parametrize("top", CONTENT)
def test_a_chain_shows_what_its_layers_made_of_it(bench: Bench, top: str) -> None:
    stack(bench)
    for make in (bench.snapshotter.prepare, bench.snapshotter.view):
        with mounted(bench, make(f"{make.__name__} {top}", top, {})) as root:
            assert shown(root) == CONTENT[top]
            assert (root.stat().st_uid, root.stat().st_gid) == (5, 6)


@pytest.mark.parametrize("top", CONTENT)
def test_a_view_cannot_be_written(bench: Bench, top: str) -> None:
    stack(bench)
    with (
        mounted(bench, bench.snapshotter.view("v", top, {})) as root,
        pytest.raises(OSError, match="Read-only file system"),
    ):
        (root / "new").write_text("x")


def test_what_one_container_writes_no_other_one_sees(bench: Bench) -> None:
    stack(bench)
    with mounted(bench, bench.snapshotter.prepare("first", "three", {})) as root:
        (root / "a").write_text("mine")
        (root / "new").write_text("mine")
        (root / "b").unlink()
    with mounted(bench, bench.snapshotter.prepare("second", "three", {})) as root:
        assert shown(root) == CONTENT["three"]
    with mounted(bench, bench.snapshotter.mounts("first")) as root:
        assert shown(root) == {"a": "mine", "d": "", "new": "mine"}


def test_layers_stacked_upon_a_thin_root_change_it_like_any_other(bench: Bench) -> None:
    for name in ("a", "b"):
        (bench.roots.tree / name).write_text("thin")
    bench.commit_thin("thin")
    for root in layer(bench, "above", "thin"):
        assert shown(root) == {"a": "thin", "b": "thin"}
        (root / "a").write_text("above")
        (root / "b").unlink()
    with mounted(bench, bench.snapshotter.view("v", "above", {})) as root:
        assert shown(root) == {"a": "above"}
    with mounted(bench, bench.snapshotter.view("w", "thin", {})) as root:
        assert shown(root) == {"a": "thin", "b": "thin"}


def test_cleanup_deletes_what_overlayfs_left_in_the_work_directory(bench: Bench) -> None:
    stack(bench)
    with mounted(bench, bench.snapshotter.prepare("k", "three", {})) as root:
        (root / "a").unlink()
    for key in ("k", "three", "two", "one"):
        bench.snapshotter.remove(key)
    bench.snapshotter.cleanup()
    assert list(bench.layout.directory.iterdir()) == []
