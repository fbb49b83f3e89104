"""Native roots that are there before their metadata, their catalog and their files are."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.elf_files import elf_file
from tests.support.faulty_http import FaultyServer
from tests.support.file_operations import listing
from tests.support.lazy import HeldFiles, metadata_pieces, with_boot
from tests.support.reading import flipped, sha256
from tests.support.repositories import directory, file, make_root, many_files, symlink, tree
from tests.support.sites import Site
from tests.support.wait import wait_until
from thinfs.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.repositories import Tree

pytestmark = pytest.mark.mount

HOT = [os.urandom(2000), os.urandom(3000)]
COLD = os.urandom(150_000)
MANY = 3000


def description() -> Tree:
    """Much metadata, two files that a start touches, one that it does not."""
    return tree(
        directory(b""),
        *many_files(b"many", MANY),
        file(b"a-hot", HOT[0]),
        file(b"b-hot", HOT[1]),
        file(b"cold", COLD),
    )


class World:
    """A repository behind a server, and a node that reads from it.

    Attributes:
        site: the node.
        files: what the repository has.
        server: serves it.
        text: the root's recipe.
        pieces: paths of the objects of its metadata image.
    """

    def __init__(self, folder: Path, **values: Any) -> None:
        origin = folder / "origin"
        made = with_boot(origin, make_root(origin, description()), **values)
        self.pieces = metadata_pieces(origin, made)
        self.files = HeldFiles(origin)
        self.server = FaultyServer(self.files)
        self.text = made.text.replace(origin.as_uri(), self.server.url)
        self.site = Site(
            folder,
            sources={
                "allow": [self.server.url],
                "read_timeout_s": 3.0,
                "timeout_s": 60.0,
                "attempts": 1,
            },
            daemon={"root_mode": "native"},
        )

    def kept(self, kind: str) -> int:
        """Files of a kind in the node's cache."""
        return sum(path.is_file() for path in (self.site.cache / kind).rglob("*"))


@pytest.fixture
def world(folder: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(folder, **getattr(request, "param", {}))
    with made.server:
        yield made
        made.files.let_go()


def starting(**values: Any) -> pytest.MarkDecorator:
    """The boot record that the test's world has."""
    return pytest.mark.parametrize("world", [{"touched": HOT, **values}], indirect=True)


def names(directory: Path) -> int:
    return len(list(directory.iterdir()))


def reads(path: Path, body: bytes) -> bool:
    try:
        return path.read_bytes() == body
    except OSError:
        return False


@starting(hot_pieces=2)
def test_a_root_is_there_and_its_start_runs_before_its_catalog_is(world: World) -> None:
    world.files.hold(world.files.below("catalogs"))
    with world.site.daemon(), world.site.client() as client:
        root = Path(client.attach("one", world.text).directory)
        assert [(root / name).read_bytes() for name in ("a-hot", "b-hot")] == HOT
        assert names(root / "many") == MANY
        assert world.kept("catalogs") == 0
        world.files.let_go()
        assert (root / "cold").read_bytes() == COLD
        assert world.kept("catalogs") == 1


def test_the_metadata_image_comes_in_pieces_and_is_a_file_for_the_next_mount(world: World) -> None:
    with world.site.daemon(), world.site.client() as client:
        seen = listing(Path(client.attach("one", world.text).directory))
        wait_until(lambda: world.kept("metadata") == 1, "the whole metadata image")
        client.detach("one")
        before = len(world.files.asked)
        assert listing(Path(client.attach("one", world.text).directory)) == seen
        assert not set(world.files.asked[before:]) & set(world.pieces)
        assert not set(world.files.asked) & set(world.files.below("metadata"))


@starting(hot_pieces=1)
def test_what_a_start_needs_is_in_the_cache_before_it_is_asked_for(world: World) -> None:
    with world.site.daemon(), world.site.client() as client:
        client.attach("one", world.text)
        wait_until(lambda: world.kept("contents") == len(HOT), "what the start needs")
        wait_until(lambda: world.kept("metadata") == 1, "the whole metadata image")
        [line] = [
            line
            for line in client.metrics().splitlines()
            if line.startswith("thinfs_prefetch_bytes_total ")
        ]
        assert float(line.split()[1]) > sum(map(len, HOT))
        assert len(world.files.asked) == len(set(world.files.asked)), "nothing is fetched twice"


@starting()
def test_a_filled_root_is_all_here_without_being_read(world: World) -> None:
    text = world.site.config.read_text()
    world.site.config.write_text(text.replace("[cache]", "[cache]\nfill = true"))
    with world.site.daemon(), world.site.client() as client:
        client.attach("one", world.text)
        wait_until(lambda: world.kept("contents") == MANY + 3, "all contents", timeout_s=60)


@pytest.mark.expects_log(
    "does not answer|no answer|cannot be had|object|not all of a read|[Ff]ailed"
)
@starting(hot_pieces=1)
def test_metadata_that_is_missing_is_an_error_until_the_network_is_back(world: World) -> None:
    world.files.hold(world.pieces[len(world.pieces) // 2 :])
    last = f"many/file-{MANY - 1:05d}"
    with world.site.daemon(), world.site.client() as client:
        root = Path(client.attach("one", world.text).directory)
        assert (root / "a-hot").read_bytes() == HOT[0]
        world.server.stop()
        with pytest.raises(OSError, match="Input/output error"):
            (root / last).stat()
        assert (root / "a-hot").read_bytes() == HOT[0]
        world.files.let_go()
        with FaultyServer(world.files, port=world.server.port):
            wait_until(lambda: reads(root / last, b"body of %d\n" % (MANY - 1)), "the network")
            assert names(root / "many") == MANY


@pytest.mark.expects_log(
    "does not answer|no answer|cannot be had|object|not all of a read|[Ff]ailed"
)
@starting()
def test_without_network_what_is_here_is_read(world: World) -> None:
    with world.site.daemon(), world.site.client() as client:
        root = Path(client.attach("one", world.text).directory)
        wait_until(lambda: world.kept("metadata") == 1, "the whole metadata image")
        wait_until(lambda: world.kept("contents") == len(HOT), "what the start needs")
        world.server.stop()
        assert (root / "a-hot").read_bytes() == HOT[0]
        assert names(root / "many") == MANY
        with pytest.raises(OSError, match="rror") as caught:
            (root / "cold").read_bytes()
        assert caught.value.errno == errno.EIO


@pytest.mark.expects_log("detaching the dead mount|the supervisor is gone")
@starting(hot_pieces=1)
def test_a_killed_daemon_goes_on_with_what_is_here(world: World) -> None:
    world.files.hold(
        [*world.files.below("catalogs"), *world.pieces[len(world.pieces) // 2 :]],
    )
    site = world.site
    with site.daemon("first") as daemon, site.client() as client:
        root = Path(client.attach("one", world.text).directory)
        assert (root / "b-hot").read_bytes() == HOT[1]
        site.kill_daemon(daemon)
    world.files.let_go()
    before = len(world.files.asked)
    with site.daemon("second"), site.client() as client:
        root = Path(client.attach("one", world.text).directory)
        assert [(root / name).read_bytes() for name in ("a-hot", "b-hot")] == HOT
        assert (root / "cold").read_bytes() == COLD
        assert names(root / "many") == MANY
        again = world.files.asked[before:]
        assert world.pieces[0] not in again, "what was here is not fetched again"


@pytest.mark.expects_log("rendered here|damaged|object|not all of a read|failed|no answer")
def test_a_damaged_piece_of_metadata_is_refused(world: World) -> None:
    for path in world.pieces:
        world.files[path] = flipped(world.files[path])
    with world.site.daemon(), world.site.client() as client:
        root = Path(client.attach("one", world.text).directory)  # rendered from the catalog
        assert names(root / "many") == MANY
        assert (root / "cold").read_bytes() == COLD


@starting(hot_pieces=1)
def test_the_trace_says_what_was_waited_for(world: World) -> None:
    with world.site.daemon(), world.site.client() as client:
        root = client.attach("one", world.text)
        assert (Path(root.directory) / "cold").read_bytes() == COLD
        wait_until(lambda: world.kept("metadata") == 1, "the whole metadata image")
        trace = client.trace(root.id)
        with pytest.raises(MissingError, match="no root"):
            client.trace("f" * 16)
    by_name = {event.name: event for event in trace.events}
    reads = [event for event in trace.events if event.what == "read"]
    cold = [event for event in reads if event.name == sha256(COLD).hex()]
    assert cold[0].waited
    assert sum(event.length for event in cold) >= len(COLD)
    assert trace.paths[cold[0].name] == "cold"
    assert by_name["metadata"].what == "read"
    assert by_name["mounting"].what == "mount"
    kinds = {event.what for event in trace.events}
    assert kinds == {"attach", "mount", "read", "fetch", "prefetch"}
    fetched = [event.length for event in trace.events if event.what in ("fetch", "prefetch")]
    assert sum(fetched) > len(COLD)


def test_a_program_is_followed_to_the_libraries_that_it_will_load(folder: Path) -> None:
    site = Site(folder, daemon={"root_mode": "native"})
    apart = 200_000  # each in objects of its own
    bodies = {
        b"usr/bin/run": elf_file(b"libone.so.1", filler=os.urandom(apart)),
        b"usr/lib/libone.so.1.2": elf_file(b"libtwo.so", filler=os.urandom(3_000_000)),
        b"usr/lib/libtwo.so": elf_file(filler=os.urandom(apart)),
        b"usr/lib/libother.so": elf_file(filler=os.urandom(apart)),
        b"start": b"#!/bin/run now\n".ljust(apart, b" "),
    }
    made = site.root(
        tree(
            directory(b""),
            directory(b"usr"),
            directory(b"usr/bin"),
            directory(b"usr/lib"),
            symlink(b"bin", b"usr/bin"),
            symlink(b"usr/lib/libone.so.1", b"libone.so.1.2"),
            *(file(path, body) for path, body in bodies.items()),
        )
    )

    def kept(path: bytes) -> bool:
        name = sha256(bodies[path]).hex()
        return (site.cache / "contents" / name[:2] / name).exists()

    with site.daemon(), site.client() as client:
        root = client.attach("one", made.text)
        with (Path(root.directory) / "start").open("rb", buffering=0) as script:
            script.read(100)
        wait_until(lambda: all(kept(path) for path in bodies if b"other" not in path), "libraries")
        assert not kept(b"usr/lib/libother.so")
        read = {event.name for event in client.trace(root.id).events if event.what == "read"}
        assert read == {sha256(bodies[b"start"]).hex()}, (
            "what was not asked for is not in the trace"
        )


def test_modules_that_are_opened_bring_the_others_of_their_directory(folder: Path) -> None:
    site = Site(folder, daemon={"root_mode": "native"})
    modules = {b"d/%02d.so" % n: elf_file(filler=os.urandom(200_000)) for n in range(12)}
    apart = {b"apart/%02d.so" % n: elf_file(filler=os.urandom(200_000)) for n in range(4)}
    bodies = {**modules, **apart, b"d/data": os.urandom(200_000)}
    made = site.root(
        tree(
            directory(b""),
            directory(b"apart"),
            directory(b"d"),
            *(file(path, body) for path, body in bodies.items()),
        )
    )

    def kept(path: bytes) -> bool:
        name = sha256(bodies[path]).hex()
        return (site.cache / "contents" / name[:2] / name).exists()

    def another(root: Path, path: bytes) -> bool:
        assert (root / os.fsdecode(path)).read_bytes() == bodies[path]
        return all(kept(each) for each in modules)

    with site.daemon(), site.client() as client:
        root = Path(client.attach("one", made.text).directory)
        left = iter(sorted(modules))
        wait_until(lambda: another(root, next(left, b"d/00.so")), "the whole directory")
        assert (root / "apart/00.so").read_bytes() == bodies[b"apart/00.so"]
        assert not kept(b"apart/03.so")
        assert not kept(b"d/data")
        trace = client.trace(made.id)
    asked = {event.name for event in trace.events if event.what == "read"}
    assert len(asked) < len(modules), "most files came without being asked for"
