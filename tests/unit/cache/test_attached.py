"""Eviction spares what attached roots may be reading where nobody sees it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from catalog.model import TreeKind
from catalog.reader import CatalogReader
from tests.support.catalogs import directory, file, write_layer
from tests.support.reading import patterned, sha256
from thinfs.cache.attached import AttachedRoots
from thinfs.cache.catalogs import keep_catalog, release_catalog
from thinfs.cache.directory import NodeCache
from thinfs.cache.places import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIB = 1 << 10


def body(number: int) -> bytes:
    return patterned(4 * KIB, number)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[NodeCache]:
    """Room for 40 bodies and a catalog; eviction leaves 20 of them."""
    made = NodeCache(tmp_path / "cache", max_bytes=200 * KIB, low_water=0.5)
    made.open()
    yield made
    made.close()


def attach(cache: NodeCache, folder: Path, *numbers: int) -> bytes:
    """Pin a catalog that has some bodies, as attaching a root does; its digest."""
    path = folder / "catalog"
    files = [file(b"%04d" % number, body(number)) for number in numbers]
    write_layer(path, [directory(b""), *files], kind=TreeKind.ROOT)
    data = path.read_bytes()
    digest = hashlib.sha256(data).digest()
    keep_catalog(cache, digest, data)
    return digest


def kept(cache: NodeCache) -> set[int]:
    present = {path.name for path in cache.places.contents.glob("??/*")}
    return {number for number in range(100) if sha256(body(number)).hex() in present}


def fill(cache: NodeCache, numbers: range) -> None:
    for number in numbers:
        cache.add_contents({sha256(body(number)): body(number)})


def test_contents_of_an_attached_root_stay_while_others_can_go(
    cache: NodeCache, tmp_path: Path
) -> None:
    attach(cache, tmp_path, 0, 1, 2)
    fill(cache, range(60))
    assert cache.evictions > 0
    assert {0, 1, 2} <= kept(cache)
    assert not kept(cache) & set(range(3, 20))


def test_they_go_when_nothing_else_can(cache: NodeCache, tmp_path: Path) -> None:
    attach(cache, tmp_path, *range(100))
    fill(cache, range(60))
    assert cache.evictions > 0
    assert 59 in kept(cache)
    assert cache.usage()[0] <= cache.max_bytes


def test_they_go_as_others_do_once_the_root_is_detached(cache: NodeCache, tmp_path: Path) -> None:
    digest = attach(cache, tmp_path, 0, 1, 2)
    fill(cache, range(60))
    release_catalog(cache, digest)
    fill(cache, range(60, 100))
    fill(cache, range(3, 60))
    assert not kept(cache) & {0, 1, 2}


def test_a_pinned_catalog_that_cannot_be_read_spares_nothing_and_hinders_nothing(
    cache: NodeCache,
) -> None:
    data = b"no catalog"
    keep_catalog(cache, sha256(data), data)
    fill(cache, range(60))
    assert 59 in kept(cache)
    assert 0 not in kept(cache)


def test_each_is_spared_once_and_questions_are_bounded(cache: NodeCache, tmp_path: Path) -> None:
    digest = attach(cache, tmp_path, 0, 1, 2)
    path = cache.places.file(Kind.CATALOG, digest)
    with AttachedRoots([CatalogReader.open(path)], max_looks=2) as attached:
        assert attached.spares(Kind.CONTENT, sha256(body(0)))
        assert not attached.spares(Kind.CONTENT, sha256(body(0)))
        assert not attached.spares(Kind.PARTIAL, sha256(body(1)))
        assert attached.spares(Kind.CONTENT, sha256(body(1)))
        assert not attached.spares(Kind.CONTENT, sha256(body(2)))
