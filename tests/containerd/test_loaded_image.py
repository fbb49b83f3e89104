"""A container starts from an image that came in a file, on a node without any network."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import sweep
from tests.support.bench_image import bench_image
from tests.support.containerd import Containerd
from tests.support.daemons import Node
from tests.support.kept_repository import bodies_of
from tests.support.small_images import convert_here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

NAME = "docker.io/library/travelled:1"


@pytest.fixture
def folder() -> Iterator[Path]:
    made = sweep.make_folder("load")
    yield made
    sweep.sweep_folder(made)


def test_a_container_starts_from_a_loaded_image_without_network(folder: Path) -> None:
    builder = folder / "builder"
    convert_here(builder, bench_image(folder / "in"), NAME, url="https://images.invalid/thin")
    command = [sys.executable, "-m", "thinfs.cli.main", "save", NAME, "--repo", str(builder)]
    subprocess.run([*command, "-o", str(folder / "bundle.tar")], check=True)
    expected = bodies_of(builder, NAME)
    data = b"".join(expected[path] for path in sorted(expected) if path.startswith(b"data/"))
    (folder / "out").mkdir()
    with contextlib.ExitStack() as stack:
        node = Node(folder / "n")
        node.daemon_command = ["unshare", "--net", "--", *node.thinfs_argv("daemon")]
        stack.enter_context(node)
        snapshotters = {"thin": node.snapshotter_socket}
        containerd = stack.enter_context(Containerd(folder / "c", snapshotters=snapshotters))
        node.thinfs(
            *("load", folder / "bundle.tar", "--containerd"),
            *("--containerd-address", containerd.address, "--namespace", containerd.namespace),
        )
        mount = f"type=bind,src={folder / 'out'},dst=/out,options=rbind:rw"
        containerd.ctr(
            *("run", "--rm", "--snapshotter=thin", f"--mount={mount}", NAME, "reader"),
            *("sh", "-c", "cat /data/* >/out/data"),
        )
        assert (folder / "out/data").read_bytes() == data
