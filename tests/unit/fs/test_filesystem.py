from __future__ import annotations

import stat

import pytest

from catalog.model import ROOT_INO
from tests.support.trees import MemoryBodies, MemoryBody, MemoryTree, node
from thinfs.errors import TransportError
from thinfs.fs.contents import is_content
from thinfs.fs.errnos import NotALink, NotRegular, StaleInode
from thinfs.fs.filesystem import DOTS, FAIL_AGAIN_S, MAX_SLOT, SLOT_BITS, FileSystem, Served
from thinfs.fs.forest import Forest

REGULAR = stat.S_IFREG | 0o644


def small_tree() -> MemoryTree:
    tree = MemoryTree()
    tree.add(ROOT_INO, b"etc", node(2, stat.S_IFDIR | 0o755, nlink=2))
    tree.add(2, b"passwd", node(3, REGULAR, size=5, content_id=7))
    tree.add(ROOT_INO, b"empty", node(4, REGULAR))
    tree.add(ROOT_INO, b"link", node(5, stat.S_IFLNK | 0o777, size=3))
    tree.targets[5] = b"etc"
    return tree


@pytest.fixture
def bodies() -> MemoryBodies:
    return MemoryBodies({7: b"root:"})


@pytest.fixture
def plain(bodies: MemoryBodies) -> FileSystem:
    return FileSystem(Served(small_tree(), bodies, file_bytes=5, inodes=5))


@pytest.fixture
def forest() -> Forest:
    return Forest(mtime_ns=1)


@pytest.fixture
def grown(forest: Forest, bodies: MemoryBodies) -> FileSystem:
    filesystem = FileSystem(forest.served())
    forest.plant(filesystem, 3, "abc", Served(small_tree(), bodies, file_bytes=5, inodes=5))
    return filesystem


def inode_at(filesystem: FileSystem, *names: bytes) -> int:
    inode = ROOT_INO
    for name in names:
        found = filesystem.lookup(inode, name)
        assert found is not None
        inode = found[0]
    return inode


def test_a_plain_mount_has_the_trees_own_numbers(plain: FileSystem) -> None:
    assert inode_at(plain, b"etc", b"passwd") == 3
    assert plain.node(ROOT_INO).nlink == 2


def test_a_missing_name_is_none_and_not_an_error(plain: FileSystem) -> None:
    assert plain.lookup(ROOT_INO, b"nothing") is None


def test_numbers_below_a_tree_carry_its_slot(grown: FileSystem) -> None:
    root = inode_at(grown, b"trees", b"abc")
    assert root == 3 << SLOT_BITS | ROOT_INO
    assert inode_at(grown, b"trees", b"abc", b"etc", b"passwd") == 3 << SLOT_BITS | 3


def test_numbers_are_positive_in_the_highest_slot(forest: Forest, bodies: MemoryBodies) -> None:
    filesystem = FileSystem(forest.served())
    forest.plant(filesystem, MAX_SLOT, "last", Served(small_tree(), bodies))
    inode = inode_at(filesystem, b"trees", b"last", b"etc", b"passwd")
    assert 0 < inode < 1 << 63
    assert not is_content(inode)
    assert filesystem.node(inode).size == 5


def test_another_file_system_with_the_same_slots_answers_for_the_same_numbers(
    grown: FileSystem, bodies: MemoryBodies
) -> None:
    inode = inode_at(grown, b"trees", b"abc", b"etc", b"passwd")
    later = FileSystem(Forest(mtime_ns=2).served())
    later.attach(3, Served(small_tree(), bodies))
    assert later.node(inode).size == 5


def test_numbers_of_a_tree_that_is_gone_are_stale(grown: FileSystem, forest: Forest) -> None:
    inode = inode_at(grown, b"trees", b"abc", b"etc")
    forest.fell(grown, "abc")
    assert grown.lookup(inode_at(grown, b"trees"), b"abc") is None
    with pytest.raises(StaleInode):
        grown.node(inode)
    with pytest.raises(StaleInode):
        grown.readdir(inode, 0, 10)


def test_a_number_that_its_tree_does_not_have_is_stale(plain: FileSystem) -> None:
    with pytest.raises(StaleInode):
        plain.node(99)


def test_only_the_names_of_trees_may_change(grown: FileSystem) -> None:
    trees = inode_at(grown, b"trees")
    assert not grown.names_last(trees)
    assert grown.names_last(ROOT_INO)
    assert grown.names_last(inode_at(grown, b"trees", b"abc"))


def test_a_listing_begins_with_dots_and_has_whole_numbers(grown: FileSystem) -> None:
    root = inode_at(grown, b"trees", b"abc")
    names = grown.readdir(root, 0, 100)
    assert [name.name for name in names] == [b".", b"..", b"empty", b"etc", b"link"]
    assert names[3].inode == 3 << SLOT_BITS | 2


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
def test_a_listing_goes_on_where_it_stopped(plain: FileSystem, limit: int) -> None:
    seen: list[bytes] = []
    after = 0
    while names := plain.readdir(ROOT_INO, after, limit):
        assert len(names) <= limit
        seen += [name.name for name in names]
        after = names[-1].cookie
    assert seen == [b".", b"..", b"empty", b"etc", b"link"]


def test_cookies_grow_from_one(plain: FileSystem) -> None:
    cookies = [name.cookie for name in plain.readdir(ROOT_INO, 0, 100)]
    assert cookies == sorted(set(cookies))
    assert cookies[0] == 1
    assert cookies[DOTS] > DOTS


def test_the_forest_lists_what_is_planted_in_order(grown: FileSystem, forest: Forest) -> None:
    forest.plant(grown, 9, "aaa", Served(small_tree(), MemoryBodies({})))
    trees = inode_at(grown, b"trees")
    names = grown.readdir(trees, 0, 100)
    assert [name.name for name in names[DOTS:]] == [b"abc", b"aaa"]
    assert [name.name for name in grown.readdir(trees, names[DOTS].cookie, 9)] == [b"aaa"]
    assert [name.name for name in grown.readdir(ROOT_INO, DOTS, 9)] == [b"trees", b"contents"]


def test_the_forests_own_directories_are_closed_to_others(grown: FileSystem) -> None:
    for inode in (ROOT_INO, inode_at(grown, b"trees")):
        assert stat.S_IMODE(grown.node(inode).mode) == 0o700


def test_a_link_has_its_target_and_other_nodes_have_none(plain: FileSystem) -> None:
    assert plain.readlink(5) == b"etc"
    with pytest.raises(NotALink):
        plain.readlink(3)


def test_what_overlayfs_would_obey_is_not_passed_on() -> None:
    tree = small_tree()
    tree.add(ROOT_INO, b"x", node(6, REGULAR, has_xattrs=True))
    tree.attributes[6] = (
        (b"security.capability", b"\1"),
        (b"trusted.overlay.redirect", b"/etc/shadow"),
        (b"user.overlay.opaque", b"y"),
        (b"user.note", b"n"),
    )
    filesystem = FileSystem(Served(tree, MemoryBodies({})))
    assert [name for name, _ in filesystem.xattrs(6)] == [b"security.capability", b"user.note"]
    assert filesystem.xattr(6, b"security.capability") == b"\1"
    assert filesystem.xattr(6, b"trusted.overlay.redirect") is None
    assert filesystem.xattr(6, b"user.missing") is None
    assert filesystem.xattrs(3) == ()


async def test_a_body_is_opened_once_for_all_who_read_it(
    plain: FileSystem, bodies: MemoryBodies
) -> None:
    plain.open(3)
    plain.open(3)
    assert await plain.read(3, 1, 3) == b"oot"
    assert await plain.read(3, 4, 9) == b":"
    plain.release(3)
    assert [body.closed for body in bodies.opened] == [0]
    plain.release(3)
    assert [body.closed for body in bodies.opened] == [1]


def test_a_body_that_is_not_read_is_never_opened(plain: FileSystem, bodies: MemoryBodies) -> None:
    plain.open(3)
    plain.release(3)
    assert bodies.opened == []


async def test_a_handle_of_an_earlier_process_is_read(
    plain: FileSystem, bodies: MemoryBodies
) -> None:
    assert await plain.read(3, 0, 100) == b"root:"
    plain.release(3)
    assert [body.closed for body in bodies.opened] == [1]
    plain.release(3)


async def test_an_empty_file_has_no_body_to_open(plain: FileSystem, bodies: MemoryBodies) -> None:
    plain.open(4)
    assert await plain.read(4, 0, 10) == b""
    plain.release(4)
    assert bodies.opened == []


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class BrokenBody(MemoryBody):
    """Fails while ``broken``; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(b"root:")
        self.broken = True
        self.asked = 0

    async def read(self, offset: int, length: int, /) -> bytes:
        self.asked += 1
        if self.broken:
            raise TransportError("nobody answers")
        return await super().read(offset, length)


async def test_the_kernels_second_try_does_not_wait_again() -> None:
    clock, body = Clock(), BrokenBody()
    filesystem = FileSystem(Served(small_tree(), lambda _: body), clock)
    filesystem.open(3)
    for _ in range(2):
        with pytest.raises(TransportError, match="nobody answers"):
            await filesystem.read(3, 0, 5)
    assert body.asked == 1
    body.broken = False
    assert await filesystem.read(3, 0, 5) == b"root:"


async def test_a_failure_is_soon_forgotten() -> None:
    clock, body = Clock(), BrokenBody()
    filesystem = FileSystem(Served(small_tree(), lambda _: body), clock)
    filesystem.open(3)
    with pytest.raises(TransportError):
        await filesystem.read(3, 0, 5)
    body.broken = False
    clock.now += FAIL_AGAIN_S
    assert await filesystem.read(3, 0, 5) == b"root:"


async def test_a_new_reader_does_not_hear_of_an_old_failure() -> None:
    body = BrokenBody()
    filesystem = FileSystem(Served(small_tree(), lambda _: body), Clock())
    filesystem.open(3)
    with pytest.raises(TransportError):
        await filesystem.read(3, 0, 5)
    filesystem.release(3)
    body.broken = False
    filesystem.open(3)
    assert await filesystem.read(3, 0, 5) == b"root:"


@pytest.mark.parametrize("inode", [ROOT_INO, 5])
async def test_only_regular_files_are_read(plain: FileSystem, inode: int) -> None:
    with pytest.raises(NotRegular):
        await plain.read(inode, 0, 1)


async def test_detaching_a_tree_closes_its_bodies(
    grown: FileSystem, forest: Forest, bodies: MemoryBodies
) -> None:
    inode = inode_at(grown, b"trees", b"abc", b"etc", b"passwd")
    grown.open(inode)
    await grown.read(inode, 0, 1)
    forest.fell(grown, "abc")
    assert [body.closed for body in bodies.opened] == [1]
    grown.release(inode)
    with pytest.raises(StaleInode):
        grown.open(inode)


async def test_closing_closes_every_body(plain: FileSystem, bodies: MemoryBodies) -> None:
    plain.open(3)
    await plain.read(3, 0, 1)
    plain.close()
    assert [body.closed for body in bodies.opened] == [1]


def test_totals_are_those_of_all_trees(grown: FileSystem) -> None:
    assert grown.totals() == (5, 264)
