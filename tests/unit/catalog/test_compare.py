"""Sharing counts each distinct thing once, on the side where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from catalog.compare import Part, compare, shares
from catalog.model import Content, Extent, ObjectRef, TreeKind
from catalog.reader import CatalogReader
from catalog.writer import CatalogWriter
from tests.support.repositories import file

if TYPE_CHECKING:
    from pathlib import Path

SETS = st.dictionaries(st.binary(min_size=1, max_size=2), st.integers(1, 50), max_size=12)


@given(SETS, SETS)
def test_shares_are_those_of_sets(a: dict[bytes, int], b: dict[bytes, int]) -> None:
    found = shares(sorted(a.items()), sorted(b.items()))
    assert found.shared == _part(b, a.keys() & b.keys())
    assert found.only_a == _part(a, a.keys() - b.keys())
    assert found.only_b == _part(b, b.keys() - a.keys())


def _part(sizes: dict[bytes, int], keys: set[bytes]) -> Part:
    return Part(len(keys), sum(sizes[key] for key in keys))


def test_trees_are_compared_by_content_and_by_object(tmp_path: Path) -> None:
    with (
        _catalog(tmp_path / "a", {b"x": b"same", b"y": b"only in a", b"z": b"same"}) as a,
        _catalog(tmp_path / "b", {b"p": b"same", b"q": b"in b"}) as b,
    ):
        found = compare(a, b)
    assert (found.contents.shared, found.contents.only_a) == (Part(1, 4), Part(1, 9))
    assert found.contents.only_b == Part(1, 4)
    assert (found.objects.shared, found.objects.only_a) == (Part(1, 104), Part(1, 109))


def test_a_tree_shares_everything_with_itself(tmp_path: Path) -> None:
    with _catalog(tmp_path / "a", {b"x": b"one", b"y": b"other"}) as a:
        found = compare(a, a)
    assert found.contents.shared == Part(2, 8)
    assert found.contents.only_a == found.contents.only_b == Part(0, 0)


def _catalog(path: Path, bodies: dict[bytes, bytes]) -> CatalogReader:
    """Each content is an object of its own, stored in 100 bytes more than it has."""
    entries = [file(name, body)[0] for name, body in bodies.items()]
    contents = {entry.content: entry.size for entry in entries}
    with CatalogWriter(path, TreeKind.ROOT) as writer:
        for digest, size in contents.items():
            assert digest is not None
            writer.add_object(ObjectRef(digest, size, size + 100))
            writer.add_content(Content(digest, size, (Extent(0, size, digest, 0),)))
        for entry in entries:
            writer.add(entry)
        writer.finish()
    return CatalogReader.open(path)
