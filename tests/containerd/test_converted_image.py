"""A converted image with everything real: converter, daemon, FUSE, snapshotter, containerd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.containerd import Containerd
from tests.support.daemons import Node
from tests.support.layouts import make_layout
from tests.support.look_image import CONFIG, compile_look, import_archive, odd_layers, run
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.containerd, pytest.mark.mount]

NAME = "example.test/odd"
PLAIN = f"{NAME}:1"
THIN = f"{NAME}:1-thin"


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    with Node(folder / "n") as running:
        yield running


def test_a_container_cannot_tell_a_thin_root_from_an_unpacked_one(
    node: Node, folder: Path, tmp_path: Path
) -> None:
    make_layout(folder / "plain", "1", odd_layers(compile_look(tmp_path)), CONFIG)
    output = f"oci:{folder}/thin:1-thin"
    node.thinfs("convert", "--repo", node.repository, "--output", output, f"oci:{folder}/plain:1")
    with Containerd(folder / "c", snapshotters={"thin": node.snapshotter_socket}) as containerd:
        import_archive(containerd, "overlayfs", folder / "plain", NAME)
        import_archive(containerd, "thin", folder / "thin", NAME)
        for words in ((), ("change",)):
            lazy, plain = (
                run(containerd, snapshotter, image, *words)
                for snapshotter, image in (("thin", THIN), ("overlayfs", PLAIN))
            )
            # An image's entry for the root directory itself is left out when containerd unpacks.
            assert lazy[0].startswith("/ 40755 3:4 ")
            assert plain[0].startswith("/ 40755 0:0 ")
            assert lazy[1:] == plain[1:]
        containerd.remove_everything()
        wait_until(lambda: not containerd.snapshots("thin"), "the snapshots to go")
        wait_until(lambda: not node.status()["roots"], "the root to be given up")
