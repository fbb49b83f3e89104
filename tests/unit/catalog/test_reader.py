from __future__ import annotations

import hashlib
import sqlite3
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from catalog import schema
from catalog.errors import CatalogError, DamagedCatalog
from catalog.model import Content, Entry, Extent, ObjectRef, TreeKind
from catalog.reader import CatalogReader
from catalog.search import position
from catalog.writer import CatalogWriter
from tests.support.catalogs import directory, file, symlink, whiteout, write_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NUMBERS = [b"%04d" % number for number in range(2500)]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[CatalogReader]:
    entries = [
        *(file(b"many/" + number, number) for number in NUMBERS),
        directory(b"empty"),
        symlink(b"link", b"many/\xfe"),
        whiteout(b"gone"),
    ]
    write_layer(tmp_path / "catalog", entries)
    with CatalogReader.open(tmp_path / "catalog") as opened:
        yield opened


def ino(reader: CatalogReader, path: bytes) -> int:
    node = reader.resolve(path)
    assert node is not None
    return node.ino


def test_the_summary_counts_what_is_there(reader: CatalogReader) -> None:
    summary = reader.summary()
    assert reader.kind is summary.kind is TreeKind.LAYER
    assert (summary.inodes, summary.names) == (2505, 2504)
    assert (summary.contents, summary.objects) == (2500, 1)
    assert summary.content_bytes == summary.file_bytes == 10_000


def test_names_and_numbers_that_are_not_there_give_none(reader: CatalogReader) -> None:
    assert reader.node(0) is None
    assert reader.node(99_999) is None
    assert reader.node(2**70) is None
    assert reader.lookup(1, b"nothing") is None
    assert reader.lookup(ino(reader, b"link"), b"x") is None
    assert reader.resolve(b"many/0001/x") is None
    assert reader.resolve(b"no/thing") is None


def test_whiteouts_are_found_as_nodes(reader: CatalogReader) -> None:
    node = reader.lookup(1, b"gone")
    assert node is not None
    assert node.is_whiteout


def test_a_directory_is_read_page_by_page(reader: CatalogReader) -> None:
    many = ino(reader, b"many")
    found = []
    after = 0
    while page := reader.readdir(many, after, limit=700):
        found += [entry.name for entry in page]
        after = page[-1].cookie
    assert found == NUMBERS


def test_a_cookie_means_the_same_to_every_reader(reader: CatalogReader) -> None:
    many = ino(reader, b"many")
    all_at_once = reader.readdir(many, limit=10_000)
    assert [entry.cookie for entry in all_at_once] == list(range(1, 2501))
    for cookie in (1, 1023, 1024, 2499):
        with CatalogReader.open(reader.path) as other:
            assert other.readdir(many, cookie, limit=10_000) == all_at_once[cookie:]


def test_the_end_of_a_directory_is_empty(reader: CatalogReader) -> None:
    assert reader.readdir(ino(reader, b"empty")) == []
    assert reader.readdir(ino(reader, b"many"), 2500) == []
    assert reader.readdir(ino(reader, b"many"), 2**62) == []
    assert reader.readdir(ino(reader, b"link")) == []


def test_a_symlink_has_its_target_and_its_size(reader: CatalogReader) -> None:
    node = reader.resolve(b"link")
    assert node is not None
    assert reader.readlink(node.ino) == b"many/\xfe"
    assert node.size == 6
    with pytest.raises(DamagedCatalog):
        reader.readlink(1)


def test_every_content_is_found_by_its_digest(reader: CatalogReader) -> None:
    contents = list(reader.contents())
    assert [number for number, _ in contents] == list(range(1, 2501))
    for number, content in contents:
        assert reader.content_id(content.digest) == number
        assert reader.content(number) == content
        assert reader.content_size(content.digest) == content.size
    assert {content.digest for _, content in contents} == {
        hashlib.sha256(number).digest() for number in NUMBERS
    }
    assert reader.content_id(b"\0" * 32) is None
    assert reader.content_id(b"\xff" * 32) is None
    assert reader.content_size(bytes(32)) is None
    with pytest.raises(DamagedCatalog):
        reader.content(2501)


def test_files_are_listed_by_the_bytes_in_their_names(tmp_path: Path) -> None:
    names = [b"a/libx.so.1", b"a/m.so", b"a/n.so", b"b/m.so", b"b/other"]
    entries = [directory(b""), directory(b"a"), directory(b"b")]
    write_layer(
        tmp_path / "catalog",
        [*entries, *(file(name, b"body of " + name) for name in names), file(b"b/empty.so", b"")],
        kind=TreeKind.ROOT,
    )
    with CatalogReader.open(tmp_path / "catalog") as reader:

        def number(path: bytes) -> int:
            node = reader.resolve(path)
            assert node is not None
            return node.content_id

        def place(path: bytes) -> int:
            node = reader.resolve(path)
            assert node is not None
            return node.ino

        assert list(reader.contents_by_directory(b".so")) == [
            (place(b"a"), number(b"a/m.so")),
            (place(b"a"), number(b"a/n.so")),
            (place(b"b"), number(b"b/m.so")),
        ]
        found = {(name, node.content_id) for name, node in reader.names_with(b".so")}
        assert (b"libx.so.1", number(b"a/libx.so.1")) in found
        assert len(found) == 5


def test_digests_are_listed_from_any_one_on(reader: CatalogReader) -> None:
    digests = [content.digest for _, content in reader.contents()]
    assert reader.digests_from(bytes(32), 3) == digests[:3]
    assert reader.digests_from(digests[7], 2) == digests[7:9]
    after = (int.from_bytes(digests[7], "big") + 1).to_bytes(32, "big")
    assert reader.digests_from(after, 1) == digests[8:9]
    assert reader.digests_from(digests[-1], 5) == digests[-1:]
    assert reader.digests_from(b"\xff" * 32, 5) == []


def test_the_contents_in_an_object_come_by_their_place_in_it(tmp_path: Path) -> None:
    one, two = b"1" * 32, b"2" * 32
    first, second = bytes(32), bytes([9] * 32)
    with CatalogWriter(tmp_path / "catalog", TreeKind.LAYER) as writer:
        writer.add(Entry(b"a", mode=stat.S_IFREG, size=30, content=first))
        writer.add(Entry(b"b", mode=stat.S_IFREG, size=5, content=second))
        writer.add_content(Content(first, 30, (Extent(0, 10, one, 50), Extent(20, 10, two, 0))))
        writer.add_content(Content(second, 5, (Extent(0, 5, one, 7),)))
        writer.add_object(ObjectRef(one, 60, 33))
        writer.add_object(ObjectRef(two, 10, 22))
        writer.finish()
    with CatalogReader.open(tmp_path / "catalog") as reader:
        refs = reader.contents_in(one)
        assert [(ref.digest, ref.size, ref.extent.object_offset) for ref in refs] == [
            (second, 5, 7),
            (first, 30, 50),
        ]
        assert [ref.extent.offset for ref in reader.contents_in(two)] == [20]
        assert reader.contents_in(b"3" * 32) == []
        assert list(reader.objects()) == [ObjectRef(one, 60, 33), ObjectRef(two, 10, 22)]
        assert reader.object(two) == ObjectRef(two, 10, 22)
        assert reader.object(b"3" * 32) is None


def test_a_walk_is_depth_first_in_name_order(tmp_path: Path) -> None:
    entries = [file(b"b"), file(b"a/z"), file(b"a/b/c"), file(b"a.b"), file(b"\xff")]
    write_layer(tmp_path / "catalog", entries)
    with CatalogReader.open(tmp_path / "catalog") as reader:
        walked = list(reader.walk())
    assert [path for path, _ in walked] == [
        *(b"", b"a", b"a/b", b"a/b/c", b"a/z"),
        *(b"a.b", b"b", b"\xff"),
    ]
    assert [node.ino for _, node in walked] == list(range(1, 9))


def test_a_deep_tree_can_be_walked(tmp_path: Path) -> None:
    write_layer(tmp_path / "catalog", [file(b"/".join([b"d"] * 4096))])
    with CatalogReader.open(tmp_path / "catalog") as reader:
        assert sum(1 for _ in reader.walk()) == 4097


def test_a_reader_serves_threads_that_did_not_open_it(reader: CatalogReader) -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(reader.lookup(1, b"many")))
    thread.start()
    thread.join()
    assert found == [reader.lookup(1, b"many")]


def test_a_file_that_is_not_there_is_an_error_but_no_damage(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as info:
        CatalogReader.open(tmp_path / "missing?x#y")
    assert not isinstance(info.value, DamagedCatalog)


def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "a ?mode=rwc#%41"
    write_layer(path, [file(b"f")])
    with CatalogReader.open(path) as reader:
        assert reader.resolve(b"f") is not None


@pytest.mark.parametrize(
    "damage",
    [
        "PRAGMA application_id = 1",
        "PRAGMA user_version = 99",
        "CREATE VIEW more AS SELECT 1",
        "CREATE TABLE more (x)",
        "CREATE TRIGGER more AFTER INSERT ON inode BEGIN SELECT 1; END",
        "CREATE INDEX more ON inode (uid)",
        "DROP TABLE xattr",
        "DROP INDEX extent_object",
        "ALTER TABLE inode RENAME COLUMN uid TO gid2",
        "DELETE FROM meta WHERE key = 'kind'",
        "UPDATE meta SET value = 'tree' WHERE key = 'kind'",
        "UPDATE meta SET value = -1 WHERE key = 'names'",
        "UPDATE meta SET value = 'many' WHERE key = 'names'",
        "INSERT INTO meta VALUES ('more', 1)",
        "DELETE FROM meta",
    ],
)
def test_a_file_with_another_schema_is_not_opened(reader: CatalogReader, damage: str) -> None:
    reader.close()
    db = sqlite3.connect(reader.path, isolation_level=None)
    db.execute(damage)
    db.close()
    with pytest.raises(DamagedCatalog):
        CatalogReader.open(reader.path)


def test_a_cycle_of_directories_ends_in_an_error(tmp_path: Path) -> None:
    path = tmp_path / "catalog"
    write_layer(path, [directory(b"a/b")])
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("INSERT INTO entry VALUES (3, x'61', 2)")
    db.close()
    with CatalogReader.open(path) as reader:
        with pytest.raises(DamagedCatalog):
            list(reader.walk())
        with pytest.raises(DamagedCatalog):
            reader.lookup(3, b"a")


def test_the_schema_that_is_shipped_has_no_comments() -> None:
    assert len(schema.statements()) == 10
    assert not any("--" in statement for statement in schema.statements())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 1000])
def test_a_search_finds_every_digest_and_no_other(count: int) -> None:
    digests = sorted(hashlib.sha256(b"%d" % number).digest() for number in range(count))

    def at(number: int) -> bytes:
        return digests[number - 1]

    assert [position(digest, count, at) for digest in digests] == list(range(1, count + 1))
    for other in (bytes(32), b"\xff" * 32, hashlib.sha256(b"other").digest()):
        assert position(other, count, at) is None


def counted(digests: list[bytes]) -> tuple[Callable[[int], bytes], list[int]]:
    probes: list[int] = []

    def at(number: int) -> bytes:
        probes.append(number)
        return digests[number - 1]

    return at, probes


def test_a_search_stays_short_in_digests_that_were_made_to_defeat_it() -> None:
    digests = sorted(bytes(28) + number.to_bytes(4, "big") for number in range(100_000))
    at, probes = counted(digests)
    assert position(digests[77_777], len(digests), at) == 77_778
    assert len(probes) <= 22


def test_a_search_takes_few_probes_in_real_digests() -> None:
    digests = sorted(hashlib.sha256(b"%d" % number).digest() for number in range(20_000))
    at, probes = counted(digests)
    for digest in digests[::200]:
        position(digest, len(digests), at)
    assert len(probes) / 100 < 8


def test_a_schema_that_is_no_text_is_damage(reader: CatalogReader) -> None:
    raw = reader.path.read_bytes()
    reader.close()
    assert raw.count(b"CREATE TABLE symlink") == 1
    reader.path.write_bytes(raw.replace(b"CREATE TABLE symlink", b"CREATE \xffABLE symlink"))
    with pytest.raises(DamagedCatalog):
        CatalogReader.open(reader.path)
