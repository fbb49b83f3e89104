from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from thinfs.errors import IntegrityError, MissingError, ThinfsError, TransportError
from thinfs.fs.contents import ContentNames, first_digest, inode_number, is_content
from thinfs.fs.errnos import StaleInode
from thinfs.fs.filesystem import FileSystem
from thinfs.fs.forest import Forest


def sha256(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


@dataclass
class FakeBody:
    data: bytes
    closed: bool = False

    async def read(self, offset: int, length: int, /) -> bytes:
        assert not self.closed
        return self.data[offset : offset + length]

    def close(self) -> None:
        self.closed = True


class FakeRoot:
    """Contents by digest."""

    def __init__(self, *bodies: bytes, **digests: bytes) -> None:
        self.bodies = {sha256(body): body for body in bodies}
        self.bodies |= {digest: name.encode() for name, digest in digests.items()}
        self.later: dict[bytes, bytes] = {}
        self.coming: trio.Event | None = None
        self.failure: ThinfsError | None = None

    def size(self, digest: bytes, /) -> int | None:
        return len(self.bodies[digest]) if digest in self.bodies else None

    def digests_from(self, first: bytes, limit: int, /) -> list[bytes]:
        return sorted(digest for digest in self.bodies if digest >= first)[:limit]

    def open(self, digest: bytes, /) -> FakeBody:
        return FakeBody(self.bodies[digest])

    @property
    def complete(self) -> bool:
        return self.coming is None

    async def more(self) -> None:
        """Wait for what is coming."""
        assert self.coming is not None
        await self.coming.wait()
        if self.failure is not None:
            raise self.failure
        self.coming = None
        self.bodies |= self.later

    def expecting(self, *bodies: bytes) -> FakeRoot:
        """Let it have more contents, but only when ``coming`` is set."""
        self.coming = trio.Event()
        self.later = {sha256(body): body for body in bodies}
        return self


@pytest.fixture
def names() -> ContentNames:
    made = ContentNames()
    made.attach("one", FakeRoot(b"x", b"common"))
    made.attach("two", FakeRoot(b"common", b"y"))
    return made


@pytest.fixture
def mount(names: ContentNames) -> FileSystem:
    return FileSystem(Forest(0, names).served(), contents=names)


def detach(mount: FileSystem, names: ContentNames, root: str) -> None:
    names.detach(root)
    mount.reopen_contents()


async def find(mount: FileSystem, body: bytes) -> int:
    name = sha256(body).hex().encode()
    fan = directory(mount, name[:2])
    found = await mount.find(fan, name)
    assert found is not None
    inode, node = found
    assert (node.mode, node.size) == (0o100444, len(body))
    assert is_content(inode)
    return inode


def directory(mount: FileSystem, fan: bytes) -> int:
    contents = mount.lookup(1, b"contents")
    assert contents is not None
    found = mount.lookup(contents[0], fan)
    assert found is not None
    return found[0]


async def test_contents_of_all_roots_are_found_by_digest(mount: FileSystem) -> None:
    for body in (b"x", b"y", b"common"):
        inode = await find(mount, body)
        assert mount.node(inode).size == len(body)
        mount.open(inode)
        assert await mount.read(inode, 1, 100) == body[1:]
        mount.release(inode)


async def test_a_number_follows_from_the_digest_alone(mount: FileSystem) -> None:
    for body in (b"x", b"y", b"common"):
        assert await find(mount, body) == inode_number(sha256(body))
    assert inode_number(b"\xff" * 32) == (1 << 63) - 1
    assert inode_number(bytes(32)) == 1 << 62


def test_the_first_digest_of_a_number_is_the_smallest_that_has_it() -> None:
    for body in (b"x", b"y", b"common"):
        first = first_digest(inode_number(sha256(body)))
        assert len(first) == 32
        assert first <= sha256(body)
        assert inode_number(first) == inode_number(sha256(body))
        before = (int.from_bytes(first, "big") - 1).to_bytes(32, "big")
        assert inode_number(before) != inode_number(first)


async def test_a_number_goes_on_when_another_root_has_the_content(
    mount: FileSystem, names: ContentNames
) -> None:
    inode = await find(mount, b"common")
    mount.open(inode)
    assert await mount.read(inode, 0, 3) == b"com"
    detach(mount, names, "one")
    assert await mount.read(inode, 3, 100) == b"mon"
    assert mount.node(inode).size == 6
    detach(mount, names, "two")
    with pytest.raises(StaleInode):
        await mount.read(inode, 0, 1)


async def test_a_number_means_the_same_to_the_process_that_serves_next() -> None:
    inode = inode_number(sha256(b"x"))
    names = ContentNames(inherits=True)
    names.attach("other", FakeRoot(*(b"%d" % number for number in range(100))))
    names.attach("one", FakeRoot(b"x"))
    later = FileSystem(Forest(0, names).served(), contents=names)
    assert later.node(inode).size == 1
    assert await later.read(inode, 0, 10) == b"x"
    later.release(inode)
    with pytest.raises(StaleInode):
        later.node(inode_number(sha256(b"in no root")))


def test_the_second_of_two_contents_with_one_number_is_refused() -> None:
    one, other = sha256(b"x"), sha256(b"x")[:8] + bytes(24)
    assert inode_number(one) == inode_number(other)
    names = ContentNames()
    names.attach("one", FakeRoot(b"x"))
    names.attach("two", FakeRoot(other=other))
    node = names.lookup(one)
    assert node is not None
    assert node.size == 1
    with pytest.raises(IntegrityError, match="have the same inode number"):
        names.lookup(other)
    names.forget(node.ino, 1)
    assert names.lookup(other) is not None


def test_a_number_of_an_earlier_process_that_two_contents_have_is_refused() -> None:
    one, other = sha256(b"x"), sha256(b"x")[:8] + bytes(24)
    names = ContentNames(inherits=True)
    names.attach("one", FakeRoot(b"x"))
    names.attach("two", FakeRoot(other=other))
    with pytest.raises(IntegrityError, match="have the same inode number"):
        names.node(inode_number(one))
    with pytest.raises(IntegrityError, match="have the same inode number"):
        names.lookup(one)


async def test_what_the_kernel_has_forgotten_is_not_remembered(
    mount: FileSystem, names: ContentNames
) -> None:
    one, other = sha256(b"x"), sha256(b"x")[:8] + bytes(24)
    inode = await find(mount, b"x")
    assert await find(mount, b"x") == inode
    names.attach("three", FakeRoot(other=other))
    mount.forget(inode, 1)
    with pytest.raises(IntegrityError):
        names.lookup(other)
    mount.forget(inode, 1)
    assert names.lookup(other) is not None
    with pytest.raises(IntegrityError):
        names.lookup(one)
    mount.forget(12345, 1)


async def test_a_digest_that_no_root_has_is_an_error_and_not_a_missing_file(
    mount: FileSystem,
) -> None:
    name = sha256(b"unknown").hex().encode()
    with pytest.raises(MissingError, match="no attached root has content"):
        await mount.find(directory(mount, name[:2]), name)


@pytest.mark.parametrize("name", [b"0" * 63, b"0" * 65, b"G" * 64, b"0" * 64 + b"\n", b"11" * 32])
async def test_what_is_no_digest_of_its_folder_is_not_there(mount: FileSystem, name: bytes) -> None:
    assert await mount.find(directory(mount, b"00"), name) is None


def test_found_names_last_and_missing_ones_do_not(mount: FileSystem) -> None:
    fan = directory(mount, b"00")
    assert mount.names_last(fan)
    assert not mount.absence_lasts(fan)
    assert mount.absence_lasts(1)
    assert mount.readdir(fan, 2, 10) == []


async def test_a_content_that_is_not_known_yet_is_waited_for() -> None:
    names = ContentNames()
    slow, slower = FakeRoot(b"x").expecting(b"y"), FakeRoot().expecting(b"z")
    names.attach("slow", slow)
    names.attach("slower", slower)
    assert await names.find(sha256(b"x")) is not None  # nothing is waited for
    found: list[object] = []

    async def look() -> None:
        found.append(await names.find(sha256(b"y")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        assert found == []
        assert slow.coming is not None
        slow.coming.set()
    [node] = found
    assert node is not None
    assert slower.coming is not None
    slower.coming.set()
    assert await names.find(sha256(b"in no root")) is None


async def test_a_number_of_an_earlier_process_is_waited_for() -> None:
    names = ContentNames(inherits=True)
    root = FakeRoot().expecting(b"y")
    names.attach("one", root)
    mount = FileSystem(Forest(0, names).served(), contents=names)
    inode = inode_number(sha256(b"y"))

    async def let_it_come() -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert root.coming is not None
        root.coming.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_it_come)
        assert await mount.read(inode, 0, 9) == b"y"
    mount.release(inode)


async def test_what_would_tell_and_cannot_be_had_is_an_error_and_not_a_missing_file() -> None:
    names = ContentNames()
    root = FakeRoot(b"x").expecting(b"y")
    root.failure = TransportError("no repository answers")
    names.attach("one", root)
    assert root.coming is not None
    root.coming.set()
    with pytest.raises(TransportError):
        await names.find(sha256(b"y"))
    assert await names.find(sha256(b"x")) is not None
