"""Writer and merge against a disk in plain dictionaries."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.check import check
from catalog.model import Entry, EntryKind
from tests.support.catalogs import (
    described,
    file,
    hardlink,
    merge_files,
    merged_tree,
    symlink,
    write_layer,
)
from tests.support.tree_model import CannotApply, Disk

NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
TARGETS = st.sampled_from([b"a", b"b/c", b"/c", b"../b", b"/a/../b", b".", b"../../.."])
UIDS = st.integers(0, 3)

DIRECTORIES = st.builds(
    lambda path, mode, uid, time: Entry(path, mode=stat.S_IFDIR | mode, uid=uid, mtime_ns=time),
    st.one_of(PATHS, st.just(b"")),
    st.sampled_from([0o755, 0o1777, 0o700]),
    UIDS,
    st.integers(-5, 5),
)
FILES = st.builds(
    lambda path, body, uid: file(path, body, uid=uid), PATHS, st.binary(max_size=1), UIDS
)
DEVICES = st.builds(
    lambda path, minor: Entry(path, mode=stat.S_IFCHR | 0o600, rdev=(1, minor)), PATHS, UIDS
)
MARKS = st.builds(Entry, PATHS, st.sampled_from([EntryKind.WHITEOUT, EntryKind.OPAQUE]))
ENTRIES = st.one_of(
    DIRECTORIES,
    FILES,
    DEVICES,
    MARKS,
    st.builds(symlink, PATHS, TARGETS),
    st.builds(hardlink, PATHS, PATHS),
    st.just(Entry(b"", EntryKind.OPAQUE)),
)
IMAGES = st.lists(st.lists(ENTRIES, max_size=12), min_size=1, max_size=4)


FILE_NAMES = st.sampled_from([b"f", b"g", b"h"])
FILE_PATHS = st.builds(
    lambda parts, name: b"/".join([*parts, name]), st.lists(NAMES, max_size=3), FILE_NAMES
)
BASES = st.lists(
    st.one_of(
        DIRECTORIES,
        st.builds(symlink, PATHS, TARGETS),
        st.builds(file, FILE_PATHS, st.binary(max_size=1)),
    ),
    max_size=12,
)
UPPERS = st.lists(
    st.one_of(
        st.builds(file, FILE_PATHS, st.binary(max_size=1)),
        st.builds(hardlink, FILE_PATHS, FILE_PATHS),
        st.builds(Entry, FILE_PATHS, st.just(EntryKind.WHITEOUT)),
    ),
    max_size=6,
)
THROUGH_SYMLINKS = st.builds(
    lambda base, uppers: [base, *uppers], BASES, st.lists(UPPERS, max_size=3)
)


def applied(
    layers: list[list[Entry]], *, follows_lower: bool = False
) -> tuple[Disk, list[list[Entry]]]:
    """The disk after all layers, and the layers without what could not be applied."""
    disk = Disk(follows_lower=follows_lower)
    kept: list[list[Entry]] = []
    for index, entries in enumerate(layers):
        disk.layer = index
        kept.append([])
        for entry in entries:
            try:
                disk.apply(entry)
            except CannotApply:
                continue
            kept[-1].append(entry)
    return disk, kept


@settings(max_examples=200, deadline=None)
@given(THROUGH_SYMLINKS)
def test_paths_through_symlinks_of_lower_layers_lead_where_the_symlinks_point(
    image: list[list[Entry]],
) -> None:
    disk, layers = applied(image, follows_lower=True)
    with tempfile.TemporaryDirectory() as name:
        assert merged_tree(Path(name), *layers) == disk.described()
        assert check(Path(name) / "root") == []


@settings(max_examples=200, deadline=None)
@given(IMAGES, st.sampled_from([1, 3, 1000]))
def test_a_merged_root_is_what_applying_the_layers_in_order_gives(
    image: list[list[Entry]], batch_rows: int
) -> None:
    disk, layers = applied(image)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / str(index) for index in range(len(layers))]
        for path, entries in zip(paths, layers, strict=True):
            write_layer(path, entries, batch_rows=batch_rows)
            assert check(path) == []
        merge_files(paths, folder / "root")
        assert check(folder / "root") == []
        assert described(folder / "root") == disk.described()


@settings(max_examples=60, deadline=None)
@given(IMAGES, st.integers(0, 3))
def test_merging_in_two_steps_gives_the_same_bytes(image: list[list[Entry]], cut: int) -> None:
    _, layers = applied(image)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / str(index) for index in range(len(layers))]
        for path, entries in zip(paths, layers, strict=True):
            write_layer(path, entries)
        merge_files(paths, folder / "once")
        merge_files(paths[:cut], folder / "lower")
        merge_files([folder / "lower", *paths[cut:]], folder / "twice")
        assert (folder / "once").read_bytes() == (folder / "twice").read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.lists(ENTRIES, max_size=12))
def test_the_bytes_of_a_catalog_do_not_depend_on_how_it_was_written(entries: list[Entry]) -> None:
    _, (layer,) = applied([entries])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_layer(folder / "one", layer, batch_rows=1)
        write_layer(folder / "many", [*layer], batch_rows=5000)
        assert (folder / "one").read_bytes() == (folder / "many").read_bytes()
