"""A warmed and pinned image needs no network, whatever of ours is restarted."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import sweep
from tests.support.bench_image import bench_image
from tests.support.containerd import CommandError, Containerd
from tests.support.daemons import Node
from tests.support.faulty_http import FaultyServer
from tests.support.kept_repository import bodies_of
from tests.support.lazy import HeldFiles
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

NAME = "docker.io/library/warmed:1"


@pytest.fixture
def folder() -> Iterator[Path]:
    made = sweep.make_folder("warm")
    yield made
    sweep.sweep_folder(made)


@pytest.mark.parametrize("mode", ["native", "tree"])
def test_a_pinned_image_starts_without_network_after_everything_was_restarted(
    folder: Path, mode: str
) -> None:
    built = folder / "built"
    (folder / "out").mkdir()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(FaultyServer({}))
        settings: dict[str, dict[str, Any]] = {
            "daemon": {"root_mode": mode},
            "sources": {"read_timeout_s": 5.0},
        }
        node = Node(folder / "n", allow=[server.url + "/"], settings=settings)
        stack.enter_context(node)
        snapshotters = {"thin": node.snapshotter_socket}
        containerd = stack.enter_context(Containerd(folder / "c", snapshotters=snapshotters))
        node.thinfs(
            *("convert", bench_image(folder / "in"), "--name", NAME),
            *("--repo", built, "--url", server.url, "--containerd"),
            *("--containerd-address", containerd.address, "--namespace", containerd.namespace),
        )
        server.files = HeldFiles(built)
        image = f"oci:{built / 'oci'}:{NAME}"
        done = json.loads(node.thinfs("warm", "--all", "--pin", "--json", image))
        assert done["images"][0]["fetched_objects"] > 0
        asked = len(server.requests)
        server.stop()
        node.stop()
        node.daemon_command = ["unshare", "--net", "--", *node.thinfs_argv("daemon")]
        node.start_daemon()
        node.start_snapshotter()
        mount = f"type=bind,src={folder / 'out'},dst=/out,options=rbind:rw"
        command = (
            *("run", "--rm", "--snapshotter=thin", f"--mount={mount}", NAME, "reader"),
            *("sh", "-c", "cat /data/* /other/* >/out/data"),
        )
        wait_until(lambda: _ran(containerd, command), "containerd to find the snapshotter again")
        assert node.status()["root_mode"] == mode
        assert node.status()["fetch"]["requests"] == 0
        assert len(server.requests) == asked
    expected = bodies_of(built, NAME)
    read = [path for path in sorted(expected) if path.startswith((b"data/", b"other/"))]
    assert (folder / "out/data").read_bytes() == b"".join(expected[path] for path in read)


def _ran(containerd: Containerd, command: tuple[str, ...]) -> bool:
    """Run it, unless containerd's connection is still that to the snapshotter before."""
    try:
        containerd.ctr(*command)
    except CommandError as error:
        if "unavailable" in str(error):
            return False
        raise
    return True
