from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from catalog.model import Content, Extent, ObjectRef
from thinfs.errors import StoreError
from thinfs.store.index import ContentIndex

if TYPE_CHECKING:
    from pathlib import Path

OBJECT = ObjectRef(b"o" * 32, 100, 50)
CONTENT = Content(
    b"c" * 32, 30, (Extent(0, 10, OBJECT.digest, 0), Extent(20, 10, OBJECT.digest, 90))
)


def test_remembers_contents_with_their_objects(tmp_path: Path) -> None:
    index = ContentIndex(tmp_path / "i")
    assert list(index.find([CONTENT.digest])) == []
    index.add([OBJECT], [CONTENT])
    index.close()
    again = ContentIndex(tmp_path / "i")
    assert list(again.find([b"x" * 32, CONTENT.digest])) == [(CONTENT, (OBJECT,))]
    again.close()


def test_the_latest_place_counts(tmp_path: Path) -> None:
    index = ContentIndex(tmp_path / "i")
    index.add([OBJECT], [CONTENT])
    moved = Content(CONTENT.digest, 30, (Extent(0, 30, b"p" * 32, 0),))
    other = ObjectRef(b"p" * 32, 30, 9)
    index.add([other], [moved])
    assert list(index.find([CONTENT.digest])) == [(moved, (other,))]
    index.close()


def test_two_converters_write_in_turn(tmp_path: Path) -> None:
    one, two = ContentIndex(tmp_path / "i"), ContentIndex(tmp_path / "i")
    one.add([OBJECT], [CONTENT])
    two.add([OBJECT], [CONTENT])
    assert list(two.find([CONTENT.digest])) == list(one.find([CONTENT.digest])) != []
    one.close()
    two.close()


def test_a_damaged_index_starts_again_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "i").write_bytes(b"no database" * 1000)
    with caplog.at_level(logging.ERROR, "thinfs.store.index"):
        index = ContentIndex(tmp_path / "i")
    assert list(index.find([CONTENT.digest])) == []
    index.add([OBJECT], [CONTENT])
    index.close()


def test_an_index_that_cannot_be_opened_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    with pytest.raises(StoreError):
        ContentIndex(tmp_path / "i")
    assert (tmp_path / "i").is_dir()


def test_a_content_whose_object_is_forgotten_in_part_is_unknown_as_a_whole(tmp_path: Path) -> None:
    """What no extent covers reads as zero: half a content would be a wrong one."""
    other = ObjectRef(b"p" * 32, 100, 50)
    split = Content(
        b"d" * 32, 30, (Extent(0, 10, OBJECT.digest, 0), Extent(20, 10, other.digest, 0))
    )
    apart = Content(b"e" * 32, 5, (Extent(0, 5, other.digest, 40),))
    index = ContentIndex(tmp_path / "i")
    index.add([OBJECT, other], [CONTENT, split, apart])
    index.forget([OBJECT.digest, b"unknown"])
    digests = [CONTENT.digest, split.digest, apart.digest]
    assert list(index.find(digests)) == [(apart, (other,))]
    index.add([OBJECT], [split])
    assert list(index.find(digests)) == [(split, (OBJECT, other)), (apart, (other,))]
    index.close()
