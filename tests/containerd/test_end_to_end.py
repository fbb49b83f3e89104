"""From an image to running containers, with real programs at every step.

One node for all of it: thinfs daemon, thin-snapshotter, and a containerd with both thin and
overlayfs. What unpackers that are not ours make of an image is the measure.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import sweep
from tests.support.containerd import Containerd
from tests.support.daemons import Node
from tests.support.layouts import make_layout, tar_layer
from tests.support.look_image import import_archive
from tests.support.odd_image import UNNAMED, odd_image, odd_image_without_cross_links
from tests.support.processes import free_port
from tests.support.redis_client import ask, is_ready
from tests.support.redis_image import redis_image
from tests.support.treediff import compare, scan
from tests.support.unpack import by_umoci, import_image, mounted, scratch_disk
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.image_cache import Layout
    from tests.support.treediff import Difference

pytestmark = [pytest.mark.containerd, pytest.mark.slow, pytest.mark.timeout(900)]

THIN = "docker.io/library/redis:thin"

# What umoci does otherwise than a container engine: pax records without a value delete.
CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
}

UMOCI = {(b"xattrs/empty-value", "xattrs")}
# What containerd does otherwise than a full unpack: it drops trusted xattrs (it fears for
# overlayfs' own), bounds times at 1970, and gives directories that a layer changes without
# naming them the time of the unpack. overlayfs counts names that a whiteout hides.
CONTAINERD = {
    (b"change", "mtime_ns"),
    (b"change/opaque", "mtime_ns"),
    (b"hard", "mtime_ns"),
    (b"hard/pair", "links"),
    (b"links", "mtime_ns"),
    (b"special", "mtime_ns"),
    (b"times/before-1970", "mtime_ns"),
    (b"xattrs", "xattrs"),
    (b"xattrs/symlink", "xattrs"),
    (b"xattrs/trusted", "xattrs"),
}


@dataclass(frozen=True, slots=True)
class World:
    """What runs.

    Attributes:
        disk: takes xattrs of any size; everything is on it.
        node: daemon and snapshotter.
        containerd: with the snapshotters thin and overlayfs.
        root_mode: ``native`` or ``tree``.
    """

    disk: Path
    node: Node
    containerd: Containerd
    root_mode: str

    def convert(self, image: Layout, name: str) -> str:
        """Convert into the node's repository and containerd; gives the thin image's name."""
        self.node.thinfs(
            *("convert", image.source, "--name", name, "--json", "--containerd"),
            *("--containerd-address", self.containerd.address),
            *("--namespace", self.containerd.namespace),
        )
        return name


@pytest.fixture(scope="module", params=["native", "tree"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    folder = sweep.make_folder("e2e")
    with contextlib.ExitStack() as stack:
        stack.callback(sweep.sweep_folder, folder)
        disk = stack.enter_context(scratch_disk(folder))
        settings = {"daemon": {"root_mode": request.param}}
        node = stack.enter_context(Node(disk / "n", settings=settings))
        snapshotters = {"thin": node.snapshotter_socket}
        containerd = stack.enter_context(Containerd(disk / "c", snapshotters=snapshotters))
        yield World(disk, node, containerd, request.param)


@pytest.fixture
def thin(world: World) -> str:
    """The thin image of Redis, known to containerd."""
    return world.convert(redis_image(), THIN)


@pytest.fixture
def clean(world: World) -> Iterator[World]:
    """The world, without the containers that a test leaves."""
    yield world
    for name in world.containerd.nerdctl("ps", "--all", "--quiet").split():
        world.containerd.nerdctl("rm", "--force", "--volumes", name)
    for name in world.containerd.ctr("containers", "list", "--quiet").split():
        world.containerd.remove_container(name)


def nerdctl_run(world: World, image: str, name: str, snapshotter: str = "thin") -> int:
    """Start Redis with nerdctl; the port on which it answers."""
    port = free_port()
    world.containerd.nerdctl(
        *(f"--snapshotter={snapshotter}", "run", "--detach", f"--name={name}", "--net=host"),
        *("--pull=never", image, "redis-server", "--port", str(port), "--save", ""),
    )
    wait_until(lambda: is_ready(port), f"Redis in {name}")
    return port


def run_once(world: World, image: str, snapshotter: str, script: str) -> str:
    """The output of a shell in a container of ``image`` that goes when it ends.

    Not in the foreground: there nerdctl 2 upon containerd 1.6 now and then waits for ever for
    the end of the output of a container that has ended at once, whatever the snapshotter.
    """
    name = f"once-{secrets.token_hex(4)}"
    output = world.disk / name
    output.mkdir()
    world.containerd.nerdctl(
        *(f"--snapshotter={snapshotter}", "run", "--detach", f"--name={name}", "--net=host"),
        *("--pull=never", "--user=root", f"--volume={output}:/mnt/output"),
        *("--entrypoint=/bin/sh", image, "-c", f"exec >/mnt/output/stdout\n{script}"),
    )
    status = world.containerd.nerdctl("wait", name).strip()
    world.containerd.nerdctl("rm", "--volumes", name)
    assert status == "0", f"{script!r} ended with {status}"
    return (output / "stdout").read_text()


def found(differences: list[Difference]) -> set[tuple[bytes, str]]:
    return {(each.path, each.what) for each in differences}


def test_ctr_runs_the_thin_image(clean: World, thin: str) -> None:
    port = free_port()
    clean.containerd.ctr(
        *("run", "--detach", "--net-host", "--snapshotter=thin", thin, "by-ctr"),
        *("redis-server", "--port", str(port), "--save", ""),
    )
    wait_until(lambda: is_ready(port), "Redis")
    assert ask(port, "SET", "k", "v") == "+OK"


def test_nerdctl_runs_two_containers_that_do_not_see_each_other(clean: World, thin: str) -> None:
    one = nerdctl_run(clean, thin, "one")
    other = nerdctl_run(clean, thin, "other")
    assert ask(one, "SET", "k", "v") == "+OK"
    assert ask(other, "GET", "k") == "$-1"
    clean.containerd.nerdctl("exec", "--user=root", "one", "sh", "-c", "echo mine >/srv/note")
    clean.containerd.nerdctl("exec", "--user=root", "one", "rm", "/etc/issue")
    listed = clean.containerd.nerdctl("exec", "other", "ls", "/srv", "/etc/issue")
    assert listed.split() == ["/etc/issue", "/srv:"]
    assert [root["mode"] for root in clean.node.status()["roots"]] == [clean.root_mode]


def test_a_commit_on_a_thin_image_runs_and_holds_only_the_change(clean: World, thin: str) -> None:
    nerdctl = clean.containerd.nerdctl
    nerdctl_run(clean, thin, "base")
    nerdctl("exec", "--user=root", "base", "sh", "-c", "echo kept >/srv/note; rm -r /usr/games")
    nerdctl("--snapshotter=thin", "commit", "base", "committed:1")
    script = "cat /srv/note; test -e /usr/games || echo gone; redis-server --version"
    answer = run_once(clean, "committed:1", "thin", script).splitlines()
    assert answer[:2] == ["kept", "gone"]
    assert answer[2].startswith("Redis server v=")
    nerdctl_run(clean, "committed:1", "again")
    nerdctl("rmi", "--force", "committed:1")


def test_many_layers_above_a_thin_image_are_unpacked_and_run(clean: World, thin: str) -> None:
    containerd, layout = clean.containerd, clean.disk / "many"
    run_once(clean, thin, "thin", "true")
    layers = [tar_layer({"thin.json": _recipe(clean)})]
    layers += [tar_layer({f"deep/{number}/file": b"%d" % number}) for number in range(100)]
    layers.append(tar_layer({"usr/local/unnamed-parents": b"x"}))
    make_layout(layout, "docker.io/library/many:1", layers, CONFIG)
    import_archive(containerd, "thin", layout)
    script = "ls /deep | wc -l; cat /deep/0/file /deep/99/file; echo; stat -c %a /usr/local"
    shown = run_once(clean, "docker.io/library/many:1", "thin", script).split()
    assert shown == ["100", "099", "755"]
    assert (
        run_once(clean, "docker.io/library/many:1", "thin", "echo x >/srv/x; cat /srv/x") == "x\n"
    )
    containerd.ctr("images", "remove", "--sync", "docker.io/library/many:1")


def test_unpacking_upon_a_thin_root_takes_no_attributes_from_the_host(
    clean: World, thin: str
) -> None:
    run_once(clean, thin, "thin", "true")
    layers = [tar_layer({"thin.json": _recipe(clean)})]
    with contextlib.ExitStack() as stack:
        name = f"thinfs-test-{os.getpid()}"  # that no layer names
        Path("/", name).mkdir(mode=0o711)
        stack.callback(Path("/", name).rmdir)
        layers.append(tar_layer({f"{name}/file": b"x"}))
        make_layout(clean.disk / "unnamed", "docker.io/library/unnamed:1", layers, CONFIG)
        import_archive(clean.containerd, "thin", clean.disk / "unnamed")
    shown = run_once(clean, "docker.io/library/unnamed:1", "thin", "stat -c %a /thinfs-test-*")
    assert shown.split() == ["755"]
    clean.containerd.ctr("images", "remove", "--sync", "docker.io/library/unnamed:1")


@pytest.mark.parametrize("world", ["native"], indirect=True)
def test_a_warm_start_asks_fuse_nothing(clean: World, thin: str) -> None:
    run_once(clean, thin, "thin", "redis-server --version; ls -lR /usr >/dev/null")
    wait_until(lambda: _stable(clean), "what arrived to be in the cache")
    before = clean.node.status()["fuse_requests"]
    answer = run_once(clean, thin, "thin", "redis-server --version; ls -lR /usr | wc -l")
    assert answer.startswith("Redis server v=")
    after = clean.node.status()["fuse_requests"]
    asked = {name: after[name] - before.get(name, 0) for name in ("lookup", "open", "read")}
    assert asked == {"lookup": 0, "open": 0, "read": 0}


@pytest.mark.parametrize("world", ["native"], indirect=True)
def test_a_warm_container_works_while_the_daemon_is_stopped(clean: World, thin: str) -> None:
    port = nerdctl_run(clean, thin, "first")
    ask(port, "SET", "k", "v")
    clean.containerd.nerdctl("exec", "first", "sh", "-c", "redis-server --version; ls /bin")
    wait_until(lambda: _stable(clean), "what arrived to be in the cache")
    port = nerdctl_run(clean, thin, "warm")
    assert clean.node.daemon.stop() == 0
    try:
        assert ask(port, "SET", "k", "v") == "+OK"
        answer = clean.containerd.nerdctl("exec", "warm", "sh", "-c", "redis-server --version")
        assert answer.startswith("Redis server v=")
    finally:
        clean.node.start_daemon()
    assert ask(nerdctl_run(clean, thin, "after"), "GET", "k") == "$-1"


def _stable(world: World) -> bool:
    """Whether nothing is on its way from a repository to the cache any more."""
    counts = [world.node.status()["cache"]["contents"] for _ in range(20)]
    return len(set(counts)) == 1


def _recipe(world: World) -> bytes:
    """The recipe of the one thin image that has been unpacked."""
    folder = world.disk / "n/snapshots/snapshots"
    return next(folder.glob("*/fs/thin.json")).read_bytes()


def test_removing_image_and_containers_leaves_nothing(clean: World) -> None:
    containerd = clean.containerd
    containerd.remove_everything()
    wait_until(lambda: _traces(clean) == [], "what other tests left to go")
    image = clean.convert(redis_image(), "docker.io/library/redis:short-lived")
    nerdctl_run(clean, image, "short-lived")
    assert len(_traces(clean)) > 3
    containerd.nerdctl("rm", "--force", "--volumes", "short-lived")
    containerd.nerdctl("--snapshotter=thin", "image", "rm", image)
    wait_until(lambda: _traces(clean) == [], "snapshots, folders, mounts and roots to go")


def _traces(world: World) -> list[str]:
    """Everything that an image and its containers have on a node, but for the node cache."""
    ours = {world.disk, world.disk / "n/mnt"}
    return [
        *world.containerd.snapshots("thin"),
        *(str(path) for path in (world.node.folder / "snapshots/snapshots").iterdir()),
        *(str(path) for path in sweep.mounts_below(world.disk) if path not in ours),
        *(root["id"] for root in world.node.status()["roots"]),
    ]


def test_an_ordinary_image_gives_the_same_tree_as_under_overlayfs(world: World) -> None:
    image = odd_image_without_cross_links()
    name = import_image(world.containerd, image, "thin")
    import_image(world.containerd, image, "overlayfs")
    with (
        mounted(world.containerd, name, world.disk / "o/thin", "thin") as ours,
        mounted(world.containerd, name, world.disk / "o/overlayfs", "overlayfs") as theirs,
    ):
        times = {path for path, entry in scan(ours).items() if entry.type == "directory"}
        assert b"bodies/sparse" in scan(ours)
        assert compare(ours, theirs, unpredictable_mtimes=times) == []
    world.containerd.ctr("images", "remove", "--sync", name)


def test_an_ordinary_image_runs_and_commits_as_under_overlayfs(clean: World) -> None:
    image = import_image(clean.containerd, redis_image(), "thin")
    import_image(clean.containerd, redis_image(), "overlayfs")
    # but for /etc, where nerdctl mounts files of its own
    show = "-type d -printf '%p %m %U %G\\n' -o -printf '%p %y %s %m %U %G %T@ %l\\n'"
    script = f"cd /; find usr var data {show} | sort"
    listings = [run_once(clean, image, each, script) for each in ("thin", "overlayfs")]
    assert listings[0].splitlines() == listings[1].splitlines()
    for snapshotter in ("thin", "overlayfs"):
        nerdctl_run(clean, image, f"on-{snapshotter}", snapshotter)
        clean.containerd.nerdctl("exec", "-u=root", f"on-{snapshotter}", "touch", "/srv/x")
        clean.containerd.nerdctl(
            f"--snapshotter={snapshotter}", "commit", f"on-{snapshotter}", f"{snapshotter}:1"
        )
        assert run_once(clean, f"{snapshotter}:1", snapshotter, "ls /srv").split() == ["x"]
        clean.containerd.nerdctl("rmi", "--force", f"{snapshotter}:1")
    clean.containerd.ctr("images", "remove", "--sync", image)


@pytest.mark.parametrize("active", [False, True], ids=["view", "container"])
def test_the_thin_tree_of_redis_equals_a_full_unpack(world: World, thin: str, active: bool) -> None:
    folder = world.disk / f"redis-{active}"
    unpacked = by_umoci(redis_image(), folder)
    with mounted(world.containerd, thin, folder / "m", "thin", active=active) as ours:
        assert compare(ours, unpacked, unpredictable_mtimes={b"."}) == []
    world.containerd.ctr("images", "remove", "--sync", thin)


def test_the_thin_tree_of_every_odd_entry_equals_a_full_unpack(world: World) -> None:
    unpacked = by_umoci(odd_image(), world.disk / "u-odd")
    thin = world.convert(odd_image(), "docker.io/library/odd:thin")
    with mounted(world.containerd, thin, world.disk / "m-odd", "thin") as ours:
        assert found(compare(ours, unpacked, unpredictable_mtimes=UNNAMED)) == UMOCI


def test_the_thin_tree_of_odd_entries_equals_what_containerd_unpacks(world: World) -> None:
    image = odd_image_without_cross_links()
    thin = world.convert(image, "docker.io/library/odd-plain:thin")
    full = import_image(world.containerd, image, "overlayfs")
    with (
        mounted(world.containerd, thin, world.disk / "p/thin", "thin") as ours,
        mounted(world.containerd, full, world.disk / "p/overlayfs", "overlayfs") as theirs,
    ):
        assert found(compare(ours, theirs, unpredictable_mtimes=UNNAMED)) == CONTAINERD
