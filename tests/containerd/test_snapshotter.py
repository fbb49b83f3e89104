"""A real containerd with thin-snapshotter: ordinary images, and thin ones without thinfs' daemon.

A thin root is here a plain directory, so that a failure is the snapshotter's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.containerd import CommandError, Containerd
from tests.support.layouts import tar_layer
from tests.support.look_image import compile_look, entry, import_image, layer, odd_layers, run
from tests.support.plain_daemon import PlainDaemon
from tests.support.snapshot_client import start_snapshotter
from tests.support.snapshots import RECIPE
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.processes import Process

pytestmark = pytest.mark.containerd

ORDINARY = "example.test/ordinary:1"
THIN = "example.test/thin:1"


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_look(tmp_path_factory.mktemp("look"))


@pytest.fixture
def snapshotter(folder: Path) -> Iterator[Process]:
    with start_snapshotter(folder) as running:
        yield running


@pytest.fixture
def node(folder: Path, snapshotter: Process) -> Iterator[Containerd]:
    """A containerd that knows thin-snapshotter as ``thin``."""
    with Containerd(folder / "c", snapshotters={"thin": folder / "s.sock"}) as running:
        yield running


@pytest.fixture
def daemon(folder: Path, look: bytes) -> Iterator[PlainDaemon]:
    """A daemon for whom every root is a directory that holds /look and some files."""
    root = folder / "tree"
    for name in ("etc", "proc", "sys", "dev", "run"):
        (root / name).mkdir(parents=True)
    for name in ("changed", "owned", "deleted", "renamed"):
        (root / "etc" / name).write_text(name)
    (root / "look").write_bytes(look)
    (root / "look").chmod(0o755)
    with PlainDaemon(folder / "daemon.sock", root) as running:
        yield running


def leftovers(node: Containerd, folder: Path) -> list[str]:
    directories = (folder / "snapshotter/snapshots").iterdir()
    return [*node.snapshots("thin"), *(path.name for path in directories)]


def test_an_ordinary_image_gives_the_same_as_under_overlayfs(
    node: Containerd, look: bytes, folder: Path
) -> None:
    shown: dict[str, list[list[str]]] = {}
    for snapshotter in ("overlayfs", "thin"):
        import_image(node, snapshotter, ORDINARY, odd_layers(look))
        shown[snapshotter] = [
            run(node, snapshotter, ORDINARY),
            run(node, snapshotter, ORDINARY, "change"),
        ]
    assert shown["thin"] == shown["overlayfs"]
    plain, changed = shown["thin"]
    assert any(line.startswith("/old/new 104755 5:6 3 ") for line in plain)
    assert not any(line.startswith(("/hidden", "/old/gone")) for line in plain)
    assert any(line.startswith("/made/renamed ") for line in changed)
    node.remove_everything()
    wait_until(lambda: not leftovers(node, folder), "everything of the image to go")


def test_a_thin_image_runs_on_its_root_and_goes_without_a_trace(
    node: Containerd, daemon: PlainDaemon, folder: Path
) -> None:
    import_image(node, "thin", THIN, [tar_layer({"thin.json": RECIPE.encode()})])
    assert daemon.holders == {}
    plain = run(node, "thin", THIN)
    assert any(line.startswith("/etc/deleted ") for line in plain)
    assert not any("thin.json" in line for line in plain)
    changed = run(node, "thin", THIN, "change")
    assert any(line.startswith("/made/renamed ") for line in changed)
    assert run(node, "thin", THIN) == plain
    node.remove_everything()
    wait_until(lambda: not leftovers(node, folder), "everything of the image to go")
    assert daemon.holders == {}


def test_layers_can_be_stacked_upon_a_thin_image(
    node: Containerd, daemon: PlainDaemon, folder: Path
) -> None:
    above = layer(entry("etc/.wh.deleted", 0o644), entry("etc/above", 0o604, size=5))
    import_image(node, "thin", THIN, [tar_layer({"thin.json": RECIPE.encode()}), above])
    shown = run(node, "thin", THIN)
    assert any(line.startswith("/etc/above 100604 ") for line in shown)
    assert any(line.startswith("/etc/owned ") for line in shown)
    assert not any(line.startswith("/etc/deleted") for line in shown)
    node.remove_everything()
    wait_until(lambda: not leftovers(node, folder), "everything of the image to go")
    assert daemon.holders == {}


def test_a_container_that_was_made_before_a_reboot_starts_after_it(
    node: Containerd, daemon: PlainDaemon, snapshotter: Process, folder: Path
) -> None:
    import_image(node, "thin", THIN, [tar_layer({"thin.json": RECIPE.encode()})])
    node.ctr("containers", "create", "--snapshotter", "thin", THIN, "c", "/look")
    assert len(daemon.holders) == 1
    node.kill()
    snapshotter.stop(9)
    before = dict(daemon.holders)
    daemon.holders.clear()
    with start_snapshotter(folder):
        node.start()
        assert "/etc/owned" in node.ctr("tasks", "start", "c")
        assert daemon.holders == before
        node.remove_everything()
        wait_until(lambda: not leftovers(node, folder), "everything of the image to go")
        assert daemon.holders == {}


@pytest.mark.expects_log("cannot give up a root, will try again")
def test_without_the_daemon_the_client_is_told_what_to_do(node: Containerd, folder: Path) -> None:
    import_image(node, "thin", THIN, [tar_layer({"thin.json": RECIPE.encode()})])
    with pytest.raises(CommandError, match="start it with thinfs daemon"):
        run(node, "thin", THIN)


def test_a_container_upon_a_thin_root_can_be_committed_and_the_result_runs(
    node: Containerd, daemon: PlainDaemon, folder: Path
) -> None:
    import_image(node, "thin", THIN, [tar_layer({"thin.json": RECIPE.encode()})])
    thin = ("--snapshotter", "thin")
    # in the background: nerdctl 2 upon containerd 1.6 may wait for ever for a quick one's output
    background = ("run", "--detach", "--net", "none", "--name", "changer")
    node.nerdctl(*thin, *background, THIN, "/look", "change")
    assert node.nerdctl("wait", "changer").strip() == "0"
    node.nerdctl(*thin, "commit", "changer", "example.test/changed:1")
    node.nerdctl(*thin, "rm", "changer")
    shown = run(node, "thin", "example.test/changed:1")
    assert any(line.startswith("/made/renamed ") for line in shown)
    assert any(line.startswith("/etc/owned 104711 7:8 ") for line in shown)
    assert not any(line.startswith("/etc/deleted ") for line in shown)
    node.remove_everything()
    wait_until(lambda: not leftovers(node, folder), "everything of the images to go")
    assert daemon.holders == {}
