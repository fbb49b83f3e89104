"""The mount as what it is for: the lower directory of an overlay."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.repositories import directory, file, many_files, symlink, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.sites import Site

pytestmark = pytest.mark.mount

CAPABILITY = b"\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"


@contextmanager
def overlay(folder: Path, lower: Path) -> Iterator[Path]:
    """A writable overlay above a directory."""
    for name in ("upper", "work", "merged"):
        (folder / name).mkdir()
    merged = folder / "merged"
    options = f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
    try:
        yield merged
    finally:
        subprocess.run(["umount", merged], check=True)


@pytest.fixture
def lower(site: Site) -> Iterator[Path]:
    root = site.root(
        tree(
            directory(b"", 0o755),
            file(b"tool", b"#!/bin/sh\n", 0o4755, xattrs=((b"security.capability", CAPABILITY),)),
            file(b"note", b"as it was\n"),
            symlink(b"link", b"note"),
            *many_files(b"many", 200),
        )
    )
    with site.mounted(root) as at:
        yield at


def test_files_are_read_through_an_overlay(lower: Path, folder: Path) -> None:
    with overlay(folder, lower) as merged:
        assert (merged / "link").read_bytes() == b"as it was\n"
        assert (merged / "many/file-00123").read_bytes() == b"body of 123\n"
        assert merged.stat().st_mode == lower.stat().st_mode


def test_a_changed_file_is_copied_up_whole(lower: Path, folder: Path) -> None:
    with overlay(folder, lower) as merged:
        with (merged / "note").open("ab") as opened:
            opened.write(b"and more\n")
        (merged / "tool").chmod(0o755)
        assert (merged / "note").read_bytes() == b"as it was\nand more\n"
        assert os.getxattr(merged / "tool", "security.capability") == CAPABILITY
        assert (folder / "upper/tool").read_bytes() == b"#!/bin/sh\n"
    assert (lower / "note").read_bytes() == b"as it was\n"


def test_listings_merge_what_is_new_and_what_is_gone(lower: Path, folder: Path) -> None:
    with overlay(folder, lower) as merged:
        (merged / "many/new").touch()
        (merged / "many/file-00000").unlink()
        names = {path.name for path in (merged / "many").iterdir()}
        shell = subprocess.run(["ls", "-a", merged / "many"], capture_output=True, check=True)
    assert names == {f"file-{number:05d}" for number in range(1, 200)} | {"new"}
    assert {b".", b".."} < set(shell.stdout.split())


def test_a_directory_can_be_removed_and_made_again(lower: Path, folder: Path) -> None:
    with overlay(folder, lower) as merged:
        subprocess.run(["rm", "-r", merged / "many"], check=True)
        (merged / "many").mkdir()
        assert list((merged / "many").iterdir()) == []
