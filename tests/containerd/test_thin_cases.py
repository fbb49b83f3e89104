"""The cases of thin images with everything real, in each way a daemon can serve them.

What overlayfs makes of the ordinary image is the measure.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support import sweep
from tests.support.containerd import CommandError, Containerd
from tests.support.daemons import Node
from tests.support.layouts import make_layout, tar_layer
from tests.support.look_image import (
    CONFIG,
    compile_look,
    entry,
    import_archive,
    layer,
    odd_layers,
)
from tests.support.look_image import run as look
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.containerd,
    pytest.mark.timeout(300),
    # One case stops the daemon; what the snapshotter says is read when it ends, with the module.
    pytest.mark.expects_log("cannot give up a root, will try again"),
]

ORDINARY = "docker.io/library/look:ordinary"
THIN = "docker.io/library/look:thin"
STACKED = "docker.io/library/look:stacked"
OWN_WAYS = {"/", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
COMMITTED = "docker.io/library/look:committed"


@dataclass(frozen=True, slots=True)
class World:
    """What runs.

    Attributes:
        mode: ``native``, ``nested`` or ``tree``.
        node: daemon and snapshotter.
        containerd: with the snapshotters thin and overlayfs; has the ordinary image.
        layout: the ordinary image.
        expected: what it shows from inside upon overlayfs, as it is and after changes.
    """

    mode: str
    node: Node
    containerd: Containerd
    layout: Path
    expected: tuple[list[str], list[str]]

    @property
    def thin_json(self) -> bytes:
        """The recipe of the thin image, which has been unpacked."""
        folder = self.node.folder / "snapshots/snapshots"
        return next(folder.glob("*/fs/thin.json")).read_bytes()

    def traces(self) -> list[str]:
        """What thin images have on the node, but for the cache."""
        directories = (self.node.folder / "snapshots/snapshots").iterdir()
        return [
            *self.containerd.snapshots("thin"),
            *(path.name for path in directories),
            *(root["id"] for root in self.node.status()["roots"]),
        ]


@pytest.fixture(scope="module", params=["native", "nested", "tree"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    folder = sweep.make_folder(f"cases-{request.param}")
    with contextlib.ExitStack() as stack:
        stack.callback(sweep.sweep_folder, folder)
        node = Node(folder / "n", settings={"daemon": {"root_mode": _root_mode(request.param)}})
        if request.param == "nested":
            nested = ("-m", "tests.support.nested_daemon", str(node.config))
            node.daemon_command = [sys.executable, *nested]
        stack.enter_context(node)
        snapshotters = {"thin": node.snapshotter_socket}
        containerd = stack.enter_context(Containerd(folder / "c", snapshotters=snapshotters))
        make_layout(folder / "layout", ORDINARY, odd_layers(compile_look(folder)), CONFIG)
        import_archive(containerd, "overlayfs", folder / "layout")
        expected = run(containerd, "overlayfs", ORDINARY)
        changed = run(containerd, "overlayfs", ORDINARY, "change")
        yield World(request.param, node, containerd, folder / "layout", (expected, changed))


def run(containerd: Containerd, snapshotter: str, image: str, *words: str) -> list[str]:
    """What a container shows, but for two things.

    The owner of its root directory: overlayfs takes it from the topmost layer, also from one that
    does not name the directory; what the image says of it is what a full unpack makes of it. And
    the files that nerdctl mounts in a container, and leaves in a commit.
    """
    lines = look(containerd, snapshotter, image, *words)
    return [line for line in lines if line.split()[0] not in OWN_WAYS]


def _root_mode(mode: str) -> str:
    return "tree" if mode == "tree" else "native"


@pytest.fixture
def thin(world: World) -> Iterator[World]:
    """The world with the thin image; all of it goes at the end without a trace."""
    world.node.thinfs(
        *("convert", f"oci:{world.layout}:{ORDINARY}", "--name", THIN, "--containerd"),
        *("--containerd-address", world.containerd.address),
        *("--namespace", world.containerd.namespace),
    )
    yield world
    for name in world.containerd.ctr("containers", "list", "--quiet").split():
        world.containerd.remove_container(name)
    for image in world.containerd.ctr("images", "list", "--quiet").split():
        if image != ORDINARY:
            world.containerd.ctr("images", "remove", "--sync", image)
    wait_until(lambda: world.traces() == [], "everything of the thin images to go")


def stack(world: World) -> None:
    """Import an image with an ordinary layer above the thin one."""
    above = layer(
        entry("etc/.wh.deleted", 0o644),
        entry("etc/above", 0o604, size=5),
        entry("old/above", 0o600, size=1),
    )
    layout = world.layout.with_name("stacked")
    make_layout(layout, STACKED, [tar_layer({"thin.json": world.thin_json}), above], CONFIG)
    import_archive(world.containerd, "thin", layout)


def test_a_thin_image_shows_and_becomes_what_the_ordinary_one_does(thin: World) -> None:
    for _ in range(2):
        assert run(thin.containerd, "thin", THIN) == thin.expected[0]
        assert run(thin.containerd, "thin", THIN, "change") == thin.expected[1]


def test_layers_upon_a_thin_image_add_and_hide(thin: World) -> None:
    run(thin.containerd, "thin", THIN)
    stack(thin)
    shown = run(thin.containerd, "thin", STACKED)
    kept = [line for line in thin.expected[0] if not line.startswith("/etc/deleted ")]
    assert [line for line in shown if "above" not in line] == kept
    assert [line.split()[:2] for line in shown if "above" in line] == [
        ["/etc/above", "100604"],
        ["/old/above", "100600"],
    ]


def test_a_committed_change_runs(thin: World) -> None:
    nerdctl = thin.containerd.nerdctl
    # in the background: nerdctl 2 upon containerd 1.6 may wait for ever for a quick one's output
    background = ("run", "--detach", "--net=none", "--pull=never", "--name=changer")
    nerdctl("--snapshotter=thin", *background, THIN, "/look", "change")
    assert nerdctl("wait", "changer").strip() == "0"
    nerdctl("--snapshotter=thin", "commit", "changer", COMMITTED)
    nerdctl("--snapshotter=thin", "rm", "changer")
    assert run(thin.containerd, "thin", COMMITTED) == thin.expected[1]


def test_a_container_made_before_everything_was_killed_starts_after(thin: World) -> None:
    containerd, node = thin.containerd, thin.node
    containerd.ctr("containers", "create", "--snapshotter=thin", THIN, "early", "/look")
    (before,) = node.status()["roots"]
    containerd.kill()
    node.snapshotter.stop(9)
    assert node.daemon.stop() == 0
    node.start_daemon()
    node.start_snapshotter()
    containerd.start()
    shown = containerd.ctr("tasks", "start", "early").splitlines()
    assert [line for line in sorted(shown) if not line.startswith("/ ")] == thin.expected[0]
    (after,) = node.status()["roots"]
    assert (after["id"], after["holders"]) == (before["id"], before["holders"])


def test_without_the_daemon_the_client_is_told_what_to_do(thin: World) -> None:
    run(thin.containerd, "thin", THIN)
    assert thin.node.daemon.stop() == 0
    try:
        with pytest.raises(CommandError, match="start it with thinfs daemon"):
            run(thin.containerd, "thin", THIN)
    finally:
        thin.node.start_daemon()
    assert run(thin.containerd, "thin", THIN) == thin.expected[0]


def test_status_says_how_the_root_is_served(thin: World) -> None:
    thin.containerd.ctr("containers", "create", "--snapshotter=thin", THIN, "held", "/look")
    (root,) = thin.node.status()["roots"]
    assert root["mode"] == _root_mode(thin.mode)
    assert ("::" in root["lowerdir"]) == (thin.mode == "native")


@pytest.mark.parametrize("world", ["native", "nested"], indirect=True)
def test_a_warm_start_asks_fuse_for_nothing_but_statfs(thin: World) -> None:
    for _ in range(2):
        run(thin.containerd, "thin", THIN)
    before = thin.node.status()["fuse_requests"]
    assert run(thin.containerd, "thin", THIN) == thin.expected[0]
    after = thin.node.status()["fuse_requests"]
    # overlayfs asks every layer when it is mounted
    assert {name for name in after if after[name] != before.get(name, 0)} <= {"statfs"}
