"""Trees in few words: entries, layers and catalogs for tests."""

from __future__ import annotations

import contextlib
import hashlib
import stat
from typing import TYPE_CHECKING

from catalog.merge import merge
from catalog.model import Content, Entry, EntryKind, Extent, ObjectRef, TreeKind
from catalog.reader import CatalogReader
from catalog.writer import CatalogWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from catalog.model import CatalogSummary, Xattrs

OBJECT = hashlib.sha256(b"object").digest()
OBJECT_BYTES = 1 << 20


def directory(
    path: bytes, mode: int = 0o755, *, uid: int = 0, mtime_ns: int = 0, xattrs: Xattrs = ()
) -> Entry:
    return Entry(path, mode=stat.S_IFDIR | mode, uid=uid, mtime_ns=mtime_ns, xattrs=xattrs)


def file(path: bytes, body: bytes = b"", *, uid: int = 0, xattrs: Xattrs = ()) -> Entry:
    """A regular file; see :func:`content_of` for its content."""
    digest = hashlib.sha256(body).digest() if body else None
    mode = stat.S_IFREG | 0o644
    return Entry(path, mode=mode, uid=uid, size=len(body), content=digest, xattrs=xattrs)


def symlink(path: bytes, target: bytes) -> Entry:
    return Entry(path, mode=stat.S_IFLNK | 0o777, target=target)


def hardlink(path: bytes, target: bytes) -> Entry:
    return Entry(path, EntryKind.HARDLINK, target=target)


def whiteout(path: bytes) -> Entry:
    return Entry(path, EntryKind.WHITEOUT)


def opaque(path: bytes) -> Entry:
    return Entry(path, EntryKind.OPAQUE)


def content_of(entry: Entry) -> Content:
    """A content for a file's body: at the beginning of :data:`OBJECT`, then a hole."""
    assert entry.content is not None
    length = min(entry.size, OBJECT_BYTES)
    return Content(entry.content, entry.size, (Extent(0, length, OBJECT, 0),))


def write_layer(
    path: Path,
    entries: Iterable[Entry],
    *,
    kind: TreeKind = TreeKind.LAYER,
    batch_rows: int | None = None,
) -> CatalogSummary:
    """Write a catalog of entries and of the contents that its files need."""
    options = {} if batch_rows is None else {"batch_rows": batch_rows}
    with CatalogWriter(path, kind, **options) as writer:
        writer.add_object(ObjectRef(OBJECT, OBJECT_BYTES, 1000))
        for entry in entries:
            writer.add(entry)
            if entry.content is not None:
                writer.add_content(content_of(entry))
        return writer.finish()


def merge_files(layers: Sequence[Path], path: Path) -> CatalogSummary:
    """Merge catalogs that lie in files."""
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(CatalogReader.open(layer)) for layer in layers]
        return merge(readers, path)


def merged_tree(folder: Path, *layers: Sequence[Entry]) -> dict[bytes, tuple[object, ...]]:
    """Write layers, base first, merge them, and describe the root; see :func:`described`."""
    paths = [folder / f"layer-{index}" for index in range(len(layers))]
    for path, entries in zip(paths, layers, strict=True):
        write_layer(path, entries)
    merge_files(paths, folder / "root")
    return described(folder / "root")


def described(path: Path) -> dict[bytes, tuple[object, ...]]:
    """A tree as path → (mode, uid, time, what it holds, links, first path of the inode).

    What it holds: a file's digest, a symlink's target, a device's numbers.
    """
    tree: dict[bytes, tuple[object, ...]] = {}
    first: dict[int, bytes] = {}
    with CatalogReader.open(path) as reader:
        for name, node in reader.walk():
            holds: object = node.rdev
            if stat.S_ISLNK(node.mode):
                holds = reader.readlink(node.ino)
            elif node.content_id:
                holds = reader.content(node.content_id).digest
            known = first.setdefault(node.ino, name)
            tree[name] = (node.mode, node.uid, node.mtime_ns, holds, node.nlink, known)
    return tree
