"""Layers as merging sees them: what each holds under a name, and what wins.

A *source* is something that has directories: a layer, or a part of one that is grafted somewhere
else. A merged directory is the list of the directories it is made of, top first.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from catalog import rows, rules
from catalog.errors import DamagedCatalog, InvalidEntry
from catalog.model import ROOT_INO, Node
from catalog.xattrs import pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.reader import CatalogReader

_CACHED_SETS: Final = 1024
_LEAST_ROW_BYTES: Final = 4

_TREE = (
    "c.digest, s.target, i.xattr_id, e.name FROM entry e LEFT JOIN inode i ON i.ino = e.ino "
    "LEFT JOIN content c ON c.id = i.content_id LEFT JOIN symlink s ON s.ino = i.ino "
)
_CHILDREN = rows.node_query(f", {_TREE} WHERE e.parent = ? ORDER BY e.name")
_CHILD = rows.node_query(f", {_TREE} WHERE e.parent = ? AND e.name = ?")
_ROOT = rows.node_query(
    ", NULL, NULL, i.xattr_id, NULL FROM inode i WHERE i.ino = 1 AND ? IS NOT NULL"
)
_PENDING = "SELECT name, target FROM pending_link WHERE parent = ? ORDER BY name"
_PENDING_CHILD = "SELECT name, target FROM pending_link WHERE parent = ? AND name = ?"


class Source(Protocol):
    """Something that has directories, each known by a number of its own."""

    root: int

    def root_found(self) -> Found:
        """The root directory."""

    def children(self, handle: int) -> Iterator[Found]:
        """What a directory holds."""

    def find(self, handle: int, name: bytes) -> Found | None:
        """What a directory holds under one name."""


Directory = tuple[tuple[Source, int], ...]
"""The directories that one merged directory is made of, top first; empty: it does not exist."""


@dataclass(slots=True)
class Found:
    """What one source holds under one name.

    Attributes:
        name: the name; empty for a root.
        node: the inode, or ``None`` for a pending hard link.
        layer: whose inode it is.
        source: where it was found; differs from ``layer`` in grafts.
        handle: of a directory in ``source``; of a pending link the directory it is in.
        digest: of a file's body.
        target: of a symlink, or the path of a pending link.
        xattr_id: the layer's number of its attributes.
    """

    name: bytes
    node: Node | None
    layer: Layer
    source: Source
    handle: int
    digest: bytes | None = None
    target: bytes = b""
    xattr_id: int = 0

    @property
    def is_directory(self) -> bool:
        """Whether other sources' directories of the name are merged with it."""
        return self.node is not None and stat.S_ISDIR(self.node.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether a path goes on elsewhere."""
        return self.node is not None and stat.S_ISLNK(self.node.mode)

    @property
    def is_whiteout(self) -> bool:
        """Whether the name is absent."""
        return self.node is not None and self.node.is_whiteout


class Layer:
    """The tree of one catalog.

    Attributes:
        index: place among the layers, 0 is the base.
        reader: the open catalog.
        root: number of the root directory.
        grafted: directories that are shown somewhere else, and not where they stand.
    """

    def __init__(self, index: int, reader: CatalogReader) -> None:
        self.index = index
        self.reader = reader
        self.root = ROOT_INO
        self.grafted: set[int] = set()
        self._has_pending = any(reader.query("SELECT 1 FROM pending_link LIMIT 1"))
        self._packed: dict[int, bytes] = {}
        self._budget = reader.file_bytes // _LEAST_ROW_BYTES

    def root_found(self) -> Found:
        """The root directory.

        Raises:
            DamagedCatalog: there is none.
        """
        found = [self._found(row, 0) for row in self.reader.query(_ROOT, 1)]
        if not found or not found[0].is_directory:
            raise DamagedCatalog(f"catalog {self.reader.path}: there is no root directory")
        return found[0]

    def children(self, handle: int) -> Iterator[Found]:
        """What a directory holds.

        Raises:
            DamagedCatalog: a name comes twice, or directories are listed more often than a
                tree of this size can have them.
        """
        last = b""
        for row in self.reader.query(_CHILDREN, handle):
            found = self._found(row, handle)
            if found.name <= last:
                raise DamagedCatalog(f"catalog {self.reader.path}: names are out of order")
            last = found.name
            self._spend()
            if found.handle not in self.grafted:
                yield found
        if self._has_pending:
            for name, target in self.reader.query(_PENDING, handle):
                yield self._pending(name, target, handle)

    def find(self, handle: int, name: bytes) -> Found | None:
        """What a directory holds under one name."""
        for row in self.reader.query(_CHILD, handle, name):
            found = self._found(row, handle)
            return None if found.handle in self.grafted else found
        if self._has_pending:
            for key, target in self.reader.query(_PENDING_CHILD, handle, name):
                return self._pending(key, target, handle)
        return None

    def xattrs(self, found: Found) -> bytes:
        """The packed attributes of a node of this layer."""
        if not found.xattr_id or found.node is None:
            return b""
        packed = self._packed.get(found.xattr_id)
        if packed is None:
            packed = pack(self.reader.xattrs(found.node.ino))
            if len(self._packed) >= _CACHED_SETS:
                self._packed.clear()
            self._packed[found.xattr_id] = packed
        return packed

    def _found(self, row: Sequence[object], parent: int) -> Found:
        node = rows.node(row[:12])
        digest, target, xattr_id, name = row[12:]
        found = Found(
            b"" if parent == 0 else rows.name(name),
            node,
            self,
            self,
            0,
            rows.digest(digest) if node.content_id else None,
            b"",
            xattr_id if isinstance(xattr_id, int) else 0,
        )
        if found.is_symlink:
            found.target = rows.target(target)
        elif found.is_directory:
            rows.below(parent, node)
            found.handle = node.ino
        return found

    def _pending(self, name: object, target: object, parent: int) -> Found:
        return Found(rows.name(name), None, self, self, parent, target=rows.path(target))

    def _spend(self) -> None:
        """Bound the work: a directory with many names of its own would be listed for each."""
        self._budget -= 1
        if self._budget < 0:
            raise DamagedCatalog(f"catalog {self.reader.path}: a directory has several names")


@dataclass(frozen=True, slots=True)
class Merged:
    """What all sources together hold under one name.

    Attributes:
        shown: whose attributes it has.
        directory: of a directory: what it is made of; empty for anything else.
    """

    shown: Found
    directory: Directory


def combine(found: Sequence[Found]) -> Merged | None:
    """Decide what stands under a name.

    Args:
        found: what the sources hold, top first, at least one.

    Returns:
        ``None`` when the name is absent. An implied directory takes its attributes from the
        topmost directory below it that an entry named, opaque or not.

    Raises:
        InvalidEntry: paths of a layer lead through what is a file in the layers below.
    """
    found = _not_hidden(found)
    if not found:
        return None
    top = found[0]
    if not top.is_directory:
        return Merged(top, ())
    directory: list[tuple[Source, int]] = []
    named: Found | None = None
    opaque: Layer | None = None
    for each in found:
        if not each.is_directory:
            if named is None:
                raise _through_file(top, each)
            break
        if opaque is None or opaque is each.layer:
            directory.append((each.source, each.handle))
        elif named is not None:
            break
        assert each.node is not None
        if named is None and not each.node.implied:
            named = each
        if opaque is None and each.node.opaque:
            opaque = each.layer
    return Merged(named or top, tuple(directory))


def _not_hidden(found: Sequence[Found]) -> Sequence[Found]:
    """What no whiteout hides: whiteouts mean the layers below theirs, not its grafts."""
    kept = []
    cut: Layer | None = None
    for each in found:
        if cut is not None and each.layer is not cut:
            break
        if each.is_whiteout:
            cut = each.layer
        else:
            kept.append(each)
    return kept


def _through_file(top: Found, below: Found) -> InvalidEntry:
    return InvalidEntry(
        f"layer {top.layer.index + 1} has paths below {rules.shown(top.name)}, "
        f"which is no directory in layer {below.layer.index + 1}"
    )


def step(directory: Directory, name: bytes) -> Merged | None:
    """What a merged directory holds under one name, or ``None``."""
    found = [each for source, handle in directory if (each := source.find(handle, name))]
    return combine(found) if found else None


def root_of(sources: Sequence[Source]) -> Merged | None:
    """The merged root of sources, top first; ``None`` without any."""
    return combine([source.root_found() for source in sources]) if sources else None
