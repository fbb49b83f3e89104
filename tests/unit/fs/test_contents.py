from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest

from catalog.model import Content
from thinfs.errors import MissingError
from thinfs.fs.contents import CONTENT_BIT, SLOT_BITS, is_content
from thinfs.fs.errnos import StaleInode
from thinfs.fs.filesystem import FileSystem, Served
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
    """Contents by number, from 1."""

    def __init__(self, *bodies: bytes) -> None:
        self._bodies = bodies

    def content_id(self, digest: bytes, /) -> int | None:
        return next((n for n, b in enumerate(self._bodies, 1) if sha256(b) == digest), None)

    def content(self, content_id: int, /) -> Content:
        body = self._bodies[content_id - 1]
        return Content(sha256(body), len(body), ())

    def served(self) -> Served:
        tree = Forest(0)  # any tree will do
        open_body = lambda number: FakeBody(self._bodies[number - 1])  # noqa: E731 - short
        return Served(tree, open_body, contents=self)


@pytest.fixture
def forest() -> Forest:
    return Forest(0)


@pytest.fixture
def mount(forest: Forest) -> FileSystem:
    made = FileSystem(forest.served(), contents=forest.contents)
    forest.plant(made, 1, "one", FakeRoot(b"x", b"common").served())
    forest.plant(made, 2, "two", FakeRoot(b"common", b"y").served())
    return made


def find(mount: FileSystem, body: bytes) -> int:
    name = sha256(body).hex().encode()
    fan = directory(mount, name[:2])
    found = mount.lookup(fan, name)
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
        inode = find(mount, body)
        assert mount.node(inode).size == len(body)
        mount.open(inode)
        assert await mount.read(inode, 1, 100) == body[1:]
        mount.release(inode)


def test_numbers_say_which_root_and_which_content(mount: FileSystem) -> None:
    assert find(mount, b"x") == 1 << SLOT_BITS | CONTENT_BIT | 1
    assert find(mount, b"y") == 2 << SLOT_BITS | CONTENT_BIT | 2


async def test_a_number_goes_on_when_another_root_has_the_content(
    forest: Forest, mount: FileSystem
) -> None:
    inode = find(mount, b"common")
    mount.open(inode)
    assert await mount.read(inode, 0, 3) == b"com"
    forest.fell(mount, "one")
    assert await mount.read(inode, 3, 100) == b"mon"
    assert mount.node(inode).size == 6
    forest.fell(mount, "two")
    with pytest.raises(StaleInode):
        await mount.read(inode, 0, 1)


def test_what_the_kernel_has_forgotten_is_not_remembered(forest: Forest, mount: FileSystem) -> None:
    inode = find(mount, b"common")
    assert find(mount, b"common") == inode
    mount.forget(inode, 1)
    forest.fell(mount, "one")
    assert mount.node(inode).size == 6
    mount.forget(inode, 1)
    with pytest.raises(StaleInode):
        mount.node(inode)
    mount.forget(inode, 1)


def test_a_digest_that_no_root_has_is_an_error_and_not_a_missing_file(mount: FileSystem) -> None:
    name = sha256(b"unknown").hex().encode()
    with pytest.raises(MissingError, match="no attached root has content"):
        mount.lookup(directory(mount, name[:2]), name)


@pytest.mark.parametrize("name", [b"0" * 63, b"0" * 65, b"G" * 64, b"0" * 64 + b"\n", b"11" * 32])
def test_what_is_no_digest_of_its_folder_is_not_there(mount: FileSystem, name: bytes) -> None:
    assert mount.lookup(directory(mount, b"00"), name) is None


def test_found_names_last_and_missing_ones_do_not(mount: FileSystem) -> None:
    fan = directory(mount, b"00")
    assert mount.names_last(fan)
    assert not mount.absence_lasts(fan)
    assert mount.absence_lasts(1)
    assert mount.readdir(fan, 2, 10) == []
