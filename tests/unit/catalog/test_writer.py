from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING

import pytest

from catalog.check import check
from catalog.errors import CatalogError, InvalidEntry
from catalog.model import Content, Entry, EntryKind, Extent, ObjectRef, TreeKind
from catalog.reader import CatalogReader
from catalog.writer import CatalogWriter
from tests.support.catalogs import (
    OBJECT,
    content_of,
    described,
    directory,
    file,
    hardlink,
    opaque,
    symlink,
    whiteout,
    write_layer,
)

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.model import Node


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


def names(path: Path) -> list[bytes]:
    return list(described(path))[1:]


def node(path: Path, name: bytes) -> Node:
    with CatalogReader.open(path) as reader:
        found = reader.resolve(name)
    assert found is not None
    return found


def refused(path: Path, *entries: Entry, kind: TreeKind = TreeKind.LAYER) -> str:
    with pytest.raises(InvalidEntry) as info:
        write_layer(path, entries, kind=kind)
    assert list(path.parent.iterdir()) == []
    return str(info.value)


def test_every_attribute_of_a_node_comes_back(path: Path) -> None:
    xattrs = ((b"security.capability", b"\1\0\0\2"), (b"user.empty", b""))
    entry = Entry(
        b"d/\xff",
        mode=stat.S_IFBLK | 0o7777,
        uid=2**32 - 1,
        gid=7,
        mtime_ns=-1,
        rdev=(4095, (1 << 20) - 1),
        xattrs=xattrs[::-1],
    )
    write_layer(path, [entry])
    with CatalogReader.open(path) as reader:
        found = reader.resolve(b"d/\xff")
        assert found is not None
        assert (found.mode, found.uid, found.gid) == (entry.mode, entry.uid, entry.gid)
        assert (found.mtime_ns, found.rdev, found.nlink) == (-1, entry.rdev, 1)
        assert found.has_xattrs
        assert reader.xattrs(found.ino) == xattrs


def test_a_later_file_replaces_an_earlier_one(path: Path) -> None:
    write_layer(path, [file(b"f", b"old", uid=1), file(b"f", b"new!", uid=2)])
    assert (node(path, b"f").uid, node(path, b"f").size) == (2, 4)


def test_a_directory_named_again_keeps_its_children(path: Path) -> None:
    write_layer(path, [directory(b"d", uid=1), file(b"d/f"), directory(b"d", 0o700, uid=2)])
    assert names(path) == [b"d", b"d/f"]
    assert (node(path, b"d").uid, node(path, b"d").mode) == (2, stat.S_IFDIR | 0o700)


def test_a_file_replaces_a_directory_and_all_below_it(path: Path) -> None:
    write_layer(path, [file(b"d/e/f"), file(b"d"), file(b"g")])
    assert names(path) == [b"d", b"g"]


def test_a_directory_that_replaces_a_file_hides_what_lower_layers_have(path: Path) -> None:
    write_layer(path, [file(b"d"), directory(b"d"), file(b"d/f")])
    assert node(path, b"d").opaque


def test_parents_that_no_entry_names_are_implied(path: Path) -> None:
    write_layer(path, [file(b"a/b/c"), directory(b"a")])
    assert [node(path, name).implied for name in (b"", b"a", b"a/b")] == [True, False, True]
    assert node(path, b"a/b").mode == stat.S_IFDIR | 0o755


def test_a_root_tree_has_no_implied_directories(path: Path) -> None:
    write_layer(path, [file(b"a/b")], kind=TreeKind.ROOT)
    assert not node(path, b"").implied
    assert not node(path, b"a").implied
    assert check(path) == []


@pytest.mark.parametrize("target", [b"real", b"/real", b"../../real", b"./real//.", b"x/../real"])
def test_a_path_through_a_symlink_goes_where_it_points(path: Path, target: bytes) -> None:
    write_layer(path, [symlink(b"link", target), file(b"link/f")])
    assert names(path) == [b"link", b"real", b"real/f"]


def test_the_last_component_of_a_path_is_not_followed(path: Path) -> None:
    write_layer(path, [symlink(b"link", b"real"), file(b"link")])
    assert names(path) == [b"link"]


def test_a_symlink_that_is_replaced_is_no_longer_followed(path: Path) -> None:
    entries = [symlink(b"l", b"one"), file(b"l/a"), symlink(b"l", b"two"), file(b"l/b")]
    write_layer(path, entries)
    assert names(path) == [b"l", b"one", b"one/a", b"two", b"two/b"]


def test_a_loop_of_symlinks_is_refused(path: Path) -> None:
    assert "loop" in refused(path, symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/f"))


def test_a_file_as_a_parent_is_refused(path: Path) -> None:
    assert "not a directory" in refused(path, file(b"f"), file(b"f/g"))


def test_hard_links_share_an_inode_in_any_directory(path: Path) -> None:
    write_layer(path, [file(b"b/f", b"x"), hardlink(b"a/g", b"b/f"), hardlink(b"c", b"a/g")])
    assert len({node(path, name).ino for name in (b"a/g", b"b/f", b"c")}) == 1
    assert node(path, b"c").nlink == 3


def test_a_hard_link_leads_through_symlinked_parents(path: Path) -> None:
    write_layer(path, [symlink(b"l", b"d"), file(b"d/f"), hardlink(b"g", b"l/f")])
    assert node(path, b"g").ino == node(path, b"d/f").ino


def test_a_hard_link_to_a_symlink_is_the_symlink(path: Path) -> None:
    write_layer(path, [symlink(b"l", b"d"), hardlink(b"m", b"l")])
    assert node(path, b"m").ino == node(path, b"l").ino


def test_a_linked_file_survives_the_loss_of_its_first_name(path: Path) -> None:
    write_layer(path, [file(b"d/f", b"x"), hardlink(b"g", b"d/f"), file(b"d")])
    assert (node(path, b"g").size, node(path, b"g").nlink) == (1, 1)


def test_a_hard_link_to_what_this_layer_has_not_waits_for_the_merge(path: Path) -> None:
    write_layer(path, [symlink(b"l", b"d"), hardlink(b"g", b"l/f"), hardlink(b"h", b"g")])
    assert names(path) == [b"l"]
    with CatalogReader.open(path) as reader:
        assert list(reader.pending_links()) == [(1, b"g", b"d/f"), (1, b"h", b"d/f")]


@pytest.mark.parametrize(
    "entries",
    [
        [directory(b"d"), hardlink(b"g", b"d")],
        [hardlink(b"g", b"")],
        [hardlink(b"", b"g")],
        [file(b"g"), hardlink(b"g", b"g")],
        [file(b"f"), hardlink(b"g", b"f/x")],
        [hardlink(b"g", b"x/../f")],
        [hardlink(b"g", b"lower"), file(b"g/below")],
    ],
)
def test_hard_links_that_make_no_sense_are_refused(path: Path, entries: list[Entry]) -> None:
    refused(path, *entries)


def test_a_whiteout_is_a_device_without_numbers(path: Path) -> None:
    write_layer(path, [whiteout(b"d/gone")])
    assert node(path, b"d/gone").is_whiteout


@pytest.mark.parametrize("order", [1, -1])
def test_a_whiteout_of_a_directory_of_this_layer_makes_it_opaque(path: Path, order: int) -> None:
    write_layer(path, [whiteout(b"d"), file(b"d/f")][::order])
    assert node(path, b"d").opaque
    assert not node(path, b"d").implied
    assert names(path) == [b"d", b"d/f"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_whiteout_of_a_file_of_this_layer_means_nothing(path: Path, order: int) -> None:
    write_layer(path, [whiteout(b"f"), file(b"f", b"x")][::order])
    assert node(path, b"f").size == 1


def test_directories_and_the_root_can_be_opaque(path: Path) -> None:
    write_layer(path, [opaque(b""), opaque(b"a/b"), symlink(b"l", b"c"), opaque(b"l")])
    assert [node(path, name).opaque for name in (b"", b"a", b"a/b", b"c")] == [
        True,
        False,
        True,
        True,
    ]
    assert node(path, b"a/b").implied


def test_a_device_0_0_is_the_whiteout_that_overlayfs_takes_it_for(path: Path) -> None:
    write_layer(path, [file(b"f"), Entry(b"f", mode=stat.S_IFCHR), Entry(b"g", mode=stat.S_IFCHR)])
    assert not node(path, b"f").is_whiteout
    assert node(path, b"g").is_whiteout


@pytest.mark.parametrize("entry", [whiteout(b"f"), opaque(b"d"), hardlink(b"f", b"g")])
def test_what_needs_lower_layers_is_refused_in_a_root(path: Path, entry: Entry) -> None:
    refused(path, entry, kind=TreeKind.ROOT)


@pytest.mark.parametrize(
    "name",
    [
        b".",
        b"..",
        b"a//b",
        b"/a",
        b"a/",
        b"a/./b",
        b"a/../b",
        b"a\0b",
        b"x" * 256,
        b"a/" * 5000 + b"b",
    ],
)
@pytest.mark.parametrize("kind", [EntryKind.NODE, EntryKind.WHITEOUT, EntryKind.OPAQUE])
def test_paths_that_are_none_are_refused(path: Path, name: bytes, kind: EntryKind) -> None:
    refused(path, Entry(name, kind, mode=stat.S_IFREG if kind is EntryKind.NODE else 0))


def test_a_path_may_not_grow_through_symlinks_without_bound(path: Path) -> None:
    deep = b"/".join([b"d"] * 3000)
    parts = [symlink(b"a", deep), symlink(b"b", b"a/" + deep[:2000]), file(b"b/f")]
    refused(
        path, symlink(b"a", b"/".join([b"d"] * 2000)), symlink(deep + b"/l", b"x" * 256), *parts
    )


@pytest.mark.parametrize(
    "entry",
    [
        Entry(b"f", mode=0o644),
        Entry(b"f", mode=stat.S_IFREG | 0o200000),
        Entry(b"f", mode=-1),
        Entry(b"f", mode=stat.S_IFREG, uid=2**32),
        Entry(b"f", mode=stat.S_IFREG, gid=-1),
        Entry(b"f", mode=stat.S_IFREG, mtime_ns=2**63),
        Entry(b"f", mode=stat.S_IFREG, size=1),
        Entry(b"f", mode=stat.S_IFREG, content=b"x" * 32),
        Entry(b"f", mode=stat.S_IFREG, size=1, content=b"short"),
        Entry(b"f", mode=stat.S_IFREG, size=2**63, content=b"x" * 32),
        Entry(b"f", mode=stat.S_IFDIR, size=1),
        Entry(b"f", mode=stat.S_IFLNK),
        Entry(b"f", mode=stat.S_IFLNK, target=b"a\0"),
        Entry(b"f", mode=stat.S_IFLNK, target=b"a" * 4096),
        Entry(b"f", mode=stat.S_IFCHR, rdev=(4096, 0)),
        Entry(b"f", mode=stat.S_IFBLK, rdev=(0, -1)),
        Entry(b"", mode=stat.S_IFREG),
        whiteout(b""),
        file(b"f", xattrs=((b"", b""),)),
        file(b"f", xattrs=((b"user.\0", b""),)),
        file(b"f", xattrs=((b"user." + b"x" * 251, b""),)),
        file(b"f", xattrs=((b"user.x", b"x" * 65537),)),
        file(b"f", xattrs=((b"user.x", b"1"), (b"user.x", b"2"))),
        file(b"f", xattrs=tuple((b"user.%0200d" % n, b"") for n in range(400))),
    ],
)
def test_values_out_of_range_are_refused(path: Path, entry: Entry) -> None:
    with pytest.raises(InvalidEntry), CatalogWriter(path, TreeKind.LAYER) as writer:
        writer.add(entry)
    assert list(path.parent.iterdir()) == []


def test_attributes_that_overlayfs_would_obey_are_dropped_and_counted(path: Path) -> None:
    xattrs = (
        (b"trusted.overlay.opaque", b"y"),
        (b"user.overlay.redirect", b"/etc/shadow"),
        (b"user.overlayish", b"kept"),
    )
    with CatalogWriter(path, TreeKind.LAYER) as writer:
        writer.add(directory(b"d", xattrs=xattrs))
        writer.finish()
        assert writer.dropped_xattrs == 2
    with CatalogReader.open(path) as reader:
        assert reader.xattrs(2) == (xattrs[2],)


def test_contents_may_come_before_or_after_entries_and_objects(path: Path) -> None:
    one, two = file(b"one", b"1"), file(b"two", b"22")
    with CatalogWriter(path, TreeKind.LAYER) as writer:
        writer.add_content(content_of(one))
        writer.add(one)
        writer.add(two)
        writer.add_content(content_of(two))
        writer.add_content(content_of(two))
        writer.add_object(ObjectRef(OBJECT, 100, 10))
        summary = writer.finish()
    assert (summary.contents, summary.objects, summary.content_bytes) == (2, 1, 3)
    assert check(path) == []


def test_adding_a_content_again_changes_nothing(path: Path) -> None:
    entry = file(b"f", b"body")
    first = content_of(entry)
    other = Content(first.digest, 4, (Extent(0, 2, b"o" * 32, 0), Extent(2, 2, b"o" * 32, 9)))
    with CatalogWriter(path, TreeKind.LAYER) as writer:
        writer.add(entry)
        writer.add_object(ObjectRef(OBJECT, 100, 10))
        writer.add_object(ObjectRef(OBJECT, 200, 20))
        writer.add_content(first)
        writer.add_content(other)
        writer.finish()
    with CatalogReader.open(path) as reader:
        assert reader.content(1) == first
        assert list(reader.objects()) == [ObjectRef(OBJECT, 100, 10)]


def test_contents_and_objects_that_nothing_uses_are_left_out(path: Path) -> None:
    entries = [file(b"f", b"gone"), file(b"f"), file(b"d/g", b"gone too"), file(b"d")]
    summary = write_layer(path, entries)
    assert (summary.contents, summary.objects, summary.file_bytes) == (0, 0, 0)


def test_holes_need_no_extents(path: Path) -> None:
    digest = hashlib.sha256(b"a hole").digest()
    with CatalogWriter(path, TreeKind.LAYER) as writer:
        writer.add(Entry(b"f", mode=stat.S_IFREG, size=1 << 50, content=digest))
        writer.add_content(Content(digest, 1 << 50, ()))
        writer.finish()
    with CatalogReader.open(path) as reader:
        assert reader.content(1) == Content(digest, 1 << 50, ())
        assert list(reader.contents()) == [(1, Content(digest, 1 << 50, ()))]


def run(offset: int, length: int, object_offset: int = 0, digest: bytes = OBJECT) -> Extent:
    return Extent(offset, length, digest, object_offset)


@pytest.mark.parametrize(
    "content",
    [
        Content(b"short", 1, ()),
        Content(b"c" * 32, 0, ()),
        Content(b"c" * 32, 9, (run(0, 10),)),
        Content(b"c" * 32, 9, (run(0, 0),)),
        Content(b"c" * 32, 9, (run(-1, 2),)),
        Content(b"c" * 32, 9, (run(0, 2, -1),)),
        Content(b"c" * 32, 9, (run(0, 2, digest=b"short"),)),
        Content(b"c" * 32, 9, (run(0, 5), run(4, 2))),
        Content(b"c" * 32, 9, (run(4, 2), run(0, 2))),
    ],
)
def test_contents_that_contradict_themselves_are_refused(path: Path, content: Content) -> None:
    with pytest.raises(InvalidEntry), CatalogWriter(path, TreeKind.LAYER) as writer:
        writer.add_content(content)


@pytest.mark.parametrize(
    ("contents", "objects", "why"),
    [
        ([], [], "never added"),
        ([Content(b"c" * 32, 5, (run(0, 5),))], [], "never added"),
        ([Content(b"c" * 32, 6, ())], [], "differ in size"),
        ([Content(b"c" * 32, 5, (run(0, 5, 6),))], [ObjectRef(OBJECT, 10, 9)], "after its object"),
    ],
)
def test_finish_refuses_what_is_not_known_or_does_not_fit(
    path: Path, contents: list[Content], objects: list[ObjectRef], why: str
) -> None:
    with CatalogWriter(path, TreeKind.LAYER) as writer:
        writer.add(Entry(b"f", mode=stat.S_IFREG, size=5, content=b"c" * 32))
        for content in contents:
            writer.add_content(content)
        for ref in objects:
            writer.add_object(ref)
        with pytest.raises(InvalidEntry, match=why):
            writer.finish()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "ref", [ObjectRef(b"s", 1, 1), ObjectRef(OBJECT, 0, 1), ObjectRef(OBJECT, 1, 0)]
)
def test_objects_without_bytes_are_refused(path: Path, ref: ObjectRef) -> None:
    with pytest.raises(InvalidEntry), CatalogWriter(path, TreeKind.LAYER) as writer:
        writer.add_object(ref)


def test_equal_sets_of_attributes_are_stored_once(path: Path) -> None:
    xattrs = ((b"user.a", b"1"), (b"user.b", b"2"))
    write_layer(path, [file(b"%d" % n, xattrs=xattrs[: n % 2 + 1]) for n in range(50)])
    with CatalogReader.open(path) as reader:
        assert list(reader.query("SELECT count(*) FROM xattr")) == [(3,)]


def test_an_error_leaves_no_file_and_an_older_file_as_it_was(path: Path) -> None:
    path.write_bytes(b"older")
    with pytest.raises(InvalidEntry), CatalogWriter(path, TreeKind.LAYER) as writer:
        writer.add(file(b"../f"))
    assert path.read_bytes() == b"older"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no/catalog"):
        CatalogWriter(tmp_path / "no/catalog", TreeKind.LAYER)


def test_the_same_tree_gives_the_same_bytes_whatever_the_order_of_entries(tmp_path: Path) -> None:
    entries = [
        *(
            file(b"d%d/f%d" % (n % 7, n), b"%d" % n, xattrs=((b"user.n", b"%d" % n),))
            for n in range(99)
        ),
        directory(b"d3", 0o700),
        symlink(b"l", b"t"),
    ]
    write_layer(tmp_path / "one", [*entries, hardlink(b"h", b"d1/f1")])
    swapped = [hardlink(b"d1/f1", b"h") if e.path == b"d1/f1" else e for e in reversed(entries)]
    source = next(e for e in entries if e.path == b"d1/f1")
    first = file(b"h", b"1", xattrs=source.xattrs)
    write_layer(tmp_path / "two", [first, *swapped])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_tree_larger_than_what_waits_in_memory_is_complete(path: Path) -> None:
    entries = [
        file(b"d%d/e%d/f%d" % (n % 3, n % 1000, n), b"%d" % (n % 500)) for n in range(12_000)
    ]
    summary = write_layer(path, entries, batch_rows=1000)
    expected = {part for entry in entries for part in ancestors(entry.path)}
    assert set(names(path)) == expected
    assert (summary.names, summary.contents) == (len(expected), 500)
    assert check(path) == []


def ancestors(path: bytes) -> list[bytes]:
    """A path and all directories above it."""
    parts = path.split(b"/")
    return [b"/".join(parts[: count + 1]) for count in range(len(parts))]
