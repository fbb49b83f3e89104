"""Which blocks of an image are needed to find paths."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from catalog import erofs
from catalog.erofs import disk
from catalog.model import TreeKind
from catalog.reader import CatalogReader
from tests.support.catalogs import directory, file, symlink, write_layer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from catalog.model import Entry

USUAL = [
    directory(b"usr"),
    *(
        file(b"usr/lib/package%03d/module%02d.py" % (i, j), b"x%d" % i)
        for i in range(200)
        for j in range(9)
    ),
    symlink(b"lib", b"usr/lib"),
]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("image"), USUAL)


def render(folder: Path, tree: Iterable[Entry]) -> Path:
    write_layer(folder / "catalog", tree, kind=TreeKind.ROOT)
    with CatalogReader.open(folder / "catalog") as reader:
        erofs.render(reader, folder / "image")
    return folder / "image"


def nodes_below(image: Path, prefix: bytes) -> dict[bytes, erofs.ImageNode]:
    return {path: node for path, node in erofs.walk(image) if path.startswith(prefix)}


def blocks(runs: Iterable[tuple[int, int]]) -> set[int]:
    return {b for o, n in runs for b in range(o // disk.BLOCK, (o + n) // disk.BLOCK)}


def test_the_way_to_a_file_is_a_small_part_of_the_image(usual: Path) -> None:
    runs = erofs.locate(usual, [b"usr/lib/package077/module03.py"])
    assert sum(length for _, length in runs) < usual.stat().st_size / 4


def test_the_superblock_comes_first(usual: Path) -> None:
    for paths in ([], [b"usr/lib"]):
        assert erofs.locate(usual, paths)[0][0] == 0


def test_inodes_and_names_on_the_way_are_there(usual: Path) -> None:
    path = b"usr/lib/package077/module03.py"
    found = blocks(erofs.locate(usual, [path]))
    nodes = nodes_below(usual, b"")
    for part in (b"", b"usr", b"usr/lib", b"usr/lib/package077", path):
        assert nodes[part].nid * disk.SLOT // disk.BLOCK in found


def test_what_stands_beside_a_file_in_a_small_directory_is_there_too(usual: Path) -> None:
    found = blocks(erofs.locate(usual, [b"usr/lib/package077/module03.py"]))
    for node in nodes_below(usual, b"usr/lib/package077/").values():
        assert node.nid * disk.SLOT // disk.BLOCK in found


def test_runs_are_whole_blocks_none_twice_and_inside_the_image(usual: Path) -> None:
    runs = erofs.locate(usual, [b"usr/lib/package%03d/module00.py" % i for i in range(0, 200, 9)])
    assert all(offset % disk.BLOCK == length % disk.BLOCK == 0 for offset, length in runs)
    assert len(blocks(runs)) * disk.BLOCK == sum(length for _, length in runs)
    assert max(offset + length for offset, length in runs) <= usual.stat().st_size


def test_what_is_looked_up_first_comes_first(usual: Path) -> None:
    paths = [b"usr/lib/package150/module00.py", b"usr/lib/package010/module00.py"]
    nodes = nodes_below(usual, b"usr/lib/package")
    runs = erofs.locate(usual, paths)
    ranks = [
        next(
            i
            for i, run in enumerate(runs)
            if nodes[path].nid * disk.SLOT in range(run[0], sum(run))
        )
        for path in paths
    ]
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[1]


def test_paths_that_lead_nowhere_are_passed_over(usual: Path) -> None:
    known = erofs.locate(usual, [b"usr/lib"])
    assert erofs.locate(usual, [b"usr/lib", b"usr/gone", b"gone/x", b"", b"..", b"lib/x"]) == known


def test_of_a_huge_directory_only_what_a_search_looks_at_is_taken(tmp_path: Path) -> None:
    names = [b"huge/name-that-is-rather-long-%06d" % i for i in range(20_000)]
    image = render(tmp_path, [directory(b"huge"), *(file(name) for name in names)])
    runs = erofs.locate(image, [names[12_345]])
    assert sum(length for _, length in runs) < 40 * disk.BLOCK * (1 + 3)
    assert len(blocks(erofs.locate(image, names))) > 200  # all of it, when all is looked up


def test_a_damaged_image_is_refused(tmp_path: Path, usual: Path) -> None:
    shutil.copy(usual, tmp_path / "image")
    with (tmp_path / "image").open("r+b") as file:
        file.seek(disk.FIRST_INODE)
        file.write(b"\xff" * 64)
    with pytest.raises(erofs.DamagedImage):
        erofs.locate(tmp_path / "image", [b"usr"])
