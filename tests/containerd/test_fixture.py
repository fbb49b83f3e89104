"""The containerd that tests start is one of their own, and goes without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import sweep

if TYPE_CHECKING:
    from tests.support.containerd import Containerd

pytestmark = pytest.mark.containerd


def test_a_private_containerd_answers_and_has_no_images(containerd: Containerd) -> None:
    assert containerd.ctr("images", "list", "--quiet") == ""
    assert containerd.snapshots("overlayfs") == []
    assert "Server" in containerd.ctr("version")


def test_nerdctl_speaks_to_it_and_keeps_its_files_in_its_folder(containerd: Containerd) -> None:
    assert containerd.nerdctl("images", "--quiet") == ""
    assert (containerd.folder / "nerdctl").is_dir()


def test_sweeping_ends_its_processes_and_removes_its_folder(
    containerd: Containerd, folder: Path
) -> None:
    mountpoint = folder / "a mount"
    mountpoint.mkdir()
    containerd.ctr("version")
    sweep.sweep_folder(folder)
    assert not folder.exists()
    assert sweep.mounts_below(folder) == []
    assert not Path(containerd.address).exists()
