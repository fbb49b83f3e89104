"""Roots that are open before their catalog is here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from catalog.reader import CatalogReader
from tests.support.lazy import with_boot
from tests.support.repositories import directory, file, make_root, tree
from thinfs.config import RepositoryConfig, SourcesConfig
from thinfs.errors import FormatError, StoreError, TransportError
from thinfs.fetch.gate import Priority
from thinfs.fetch.verify import decompress
from thinfs.roots.opening import REST_S, OpenRoot, RootOpener, SourcePool
from thinfs.store.layout import boot_path, catalog_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tests.support.repositories import MadeRoot
    from thinfs.oci.recipe import Recipe
    from thinfs.store.source import Source

HOT, COLD = b"hot\n" * 100, b"cold\n" * 100


@dataclass
class FakeFiles:
    """Files of one kind straight from a repository; ``gate`` holds them back."""

    repository: Path
    folder: Path
    name: Callable[[bytes], str]
    gate: trio.Event | None = None
    failures: int = 0
    here: set[bytes] = field(default_factory=set)
    pinned: list[bytes] = field(default_factory=list)
    asked: list[Priority] = field(default_factory=list)
    hurried: list[bytes] = field(default_factory=list)

    async def kept(self, digest: bytes, /) -> Path | None:
        if digest not in self.here:
            return None
        self.pinned.append(digest)
        return self.folder / digest.hex()

    async def file(
        self,
        digest: bytes,
        size: int,
        stored_size: int,
        sources: Sequence[Source],
        priority: Priority = Priority.DEMAND,
        /,
    ) -> Path:
        self.asked.append(priority)
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise TransportError("no repository answers")
        body = decompress((self.repository / self.name(digest)).read_bytes(), size)
        (self.folder / digest.hex()).write_bytes(body)
        self.here.add(digest)
        self.pinned.append(digest)
        return self.folder / digest.hex()

    def hurry(self, digest: bytes, /) -> None:
        self.hurried.append(digest)

    async def release(self, digest: bytes, /) -> None:
        while digest in self.pinned:
            self.pinned.remove(digest)


class Node:
    """An opener with files of a repository."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.repository = folder / "repository"
        (folder / "files").mkdir()
        self.catalogs = FakeFiles(self.repository, folder / "files", catalog_path)
        self.boots = FakeFiles(self.repository, folder / "files", boot_path)
        pool = SourcePool(SourcesConfig(), RepositoryConfig(path=str(self.repository)))
        self.opener = RootOpener(
            nursery,
            self.catalogs,
            self.boots,
            pool,
            open_reader=CatalogReader.open,
            settled=trio.lowlevel.checkpoint,
        )

    def made(self, touched: Sequence[bytes] = (HOT,)) -> MadeRoot:
        bare = make_root(
            self.repository, tree(directory(b""), file(b"hot", HOT), file(b"cold", COLD))
        )
        return with_boot(self.repository, bare, touched)

    async def open(self, recipe: Recipe) -> OpenRoot:
        opened = await self.opener.open(recipe)
        assert opened is not None
        return opened


def sha256(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with trio.open_nursery() as nursery:
        yield Node(tmp_path, nursery)
        nursery.cancel_scope.cancel()


async def test_a_root_is_open_when_its_boot_record_is_here(
    node: Node, autojump_clock: trio.testing.MockClock
) -> None:
    node.catalogs.gate = trio.Event()
    root = await node.open(node.made().recipe)
    known = root.contents
    assert not known.complete
    assert known.size(sha256(HOT)) == len(HOT)
    assert known.size(sha256(COLD)) is None
    assert known.content(known.number(sha256(HOT)) or 0).size == len(HOT)
    assert node.catalogs.asked == []
    await trio.sleep(2 * REST_S)
    assert node.catalogs.asked == [Priority.BACKGROUND]
    node.catalogs.gate.set()
    catalog = await known.catalog()
    assert known.complete
    assert known.size(sha256(COLD)) == len(COLD)
    assert catalog.content_id(sha256(HOT)) != known.number(sha256(HOT)), (
        "read as the boot record says"
    )
    await node.opener.close(root)
    assert node.catalogs.pinned == node.boots.pinned == []


async def test_a_catalog_that_somebody_waits_for_is_urgent(node: Node) -> None:
    node.catalogs.gate = gate = trio.Event()
    root = await node.open(node.made().recipe)
    await trio.testing.wait_all_tasks_blocked()
    assert node.catalogs.hurried == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.contents.catalog)
        await trio.testing.wait_all_tasks_blocked()
        assert node.catalogs.hurried == [root.digest]
        gate.set()
    await node.opener.close(root)


async def test_without_a_profile_the_catalog_is_urgent_from_the_beginning(node: Node) -> None:
    root = await node.open(node.made(touched=()).recipe)
    await root.contents.catalog()
    assert node.catalogs.asked == [Priority.DEMAND]
    await node.opener.close(root)


@pytest.mark.expects_log("its catalog cannot be had yet")
async def test_a_catalog_that_cannot_be_had_is_asked_for_again(
    node: Node, autojump_clock: trio.testing.MockClock
) -> None:
    node.catalogs.failures = 2
    root = await node.open(node.made().recipe)
    with pytest.raises(TransportError):
        await root.contents.catalog()
    with pytest.raises(TransportError):
        await root.contents.catalog()
    assert (await root.contents.catalog()).path.exists()
    await node.opener.close(root)


async def test_who_waits_for_a_catalog_hears_that_the_root_goes(node: Node) -> None:
    node.catalogs.gate = trio.Event()
    root = await node.open(node.made().recipe)
    raised: list[StoreError] = []

    async def wait() -> None:
        try:
            await root.contents.catalog()
        except StoreError as error:
            raised.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await node.opener.close(root)
    assert len(raised) == 1
    assert node.catalogs.pinned == []


async def test_a_root_is_opened_from_the_cache_alone_if_either_is_here(node: Node) -> None:
    recipe = node.made().recipe
    assert await node.opener.open(recipe, cached_only=True) is None
    root = await node.open(recipe)
    await root.contents.catalog()
    await node.opener.close(root)
    for kind in (node.catalogs, node.boots):
        here, kind.here = kind.here, set()
        again = await node.opener.open(recipe, cached_only=True)
        assert again is not None
        await node.opener.close(again)
        kind.here = here


async def test_without_its_boot_record_a_root_waits_for_its_catalog(node: Node) -> None:
    node.boots.failures = 1
    root = await node.open(node.made().recipe)
    assert root.contents.complete
    assert root.contents.boot is None
    await node.opener.close(root)


async def test_a_boot_record_of_another_metadata_image_is_not_used(node: Node) -> None:
    recipe = node.made().recipe
    assert recipe.thinfs is not None
    assert recipe.thinfs.root.metadata is not None
    metadata = replace(recipe.thinfs.root.metadata, digest="sha256:" + "0" * 64)
    extension = replace(recipe.thinfs, root=replace(recipe.thinfs.root, metadata=metadata))
    root = await node.open(replace(recipe, thinfs=extension))
    assert root.contents.boot is None
    await node.opener.close(root)


async def test_what_fails_leaves_nothing_pinned(node: Node) -> None:
    recipe = node.made().recipe
    node.boots.failures = node.catalogs.failures = 1
    with pytest.raises(TransportError):
        await node.opener.open(recipe)
    assert node.catalogs.pinned == node.boots.pinned == []


async def test_contents_of_an_object_are_those_that_are_read_from_it(node: Node) -> None:
    root = await node.open(node.made().recipe)
    catalog = await root.contents.catalog()
    known = root.contents
    assert known.boot is not None
    [bundle] = known.boot.order
    assert [ref.digest for ref in known.contents_in(bundle.digest)] == [sha256(HOT)]
    number = catalog.content_id(sha256(COLD))
    assert number is not None
    other = catalog.content(number).extents[0].object
    assert [ref.digest for ref in known.contents_in(other)] == [sha256(COLD)], (
        "HOT is read elsewhere"
    )
    assert known.object(other) is not None
    assert known.object(bundle.digest) == bundle
    everything = known.digests_from(bytes(32), 10)
    assert everything == sorted({sha256(HOT), sha256(COLD), known.metadata})
    await node.opener.close(root)


async def test_a_recipe_without_a_merged_root_is_refused(node: Node) -> None:
    recipe = node.made().recipe
    with pytest.raises(FormatError):
        await node.opener.open(replace(recipe, thinfs=None))
