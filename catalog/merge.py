"""Merging the layers of an image into its root, as overlaying one on another shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog import rules
from catalog.build import building
from catalog.emit import Item, emit
from catalog.errors import InvalidEntry
from catalog.grafts import Step, resolve, with_grafts
from catalog.layers import Directory, Found, Layer, Merged, Source, combine, root_of, step
from catalog.model import TreeKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from catalog.build import CatalogBuilder
    from catalog.model import CatalogSummary
    from catalog.reader import CatalogReader

LinkName = tuple[int, int, bytes]
"""A pending hard link: (index of its layer, its directory there, its name)."""


def merge(layers: Sequence[CatalogReader], path: Path) -> CatalogSummary:
    """Write the root catalog of an image.

    Args:
        layers: open catalogs, the base first; no layers give an empty root directory.
        path: the file to write; it appears when it is complete.

    Memory: the directories on one path, and a number for each inode with several names.

    Raises:
        InvalidEntry: the layers do not fit together: paths below a file, a hard link to what is
            not there.
        DamagedCatalog: a layer's catalog breaks its invariants.
    """
    views = [Layer(index, reader) for index, reader in enumerate(layers)]
    with building(path, TreeKind.ROOT) as builder:
        sources = with_grafts(views)
        tree = _Tree(sources, _linked_files(views, sources))
        emit(builder, tree.root(), tree.children)
        _add_contents(builder, layers)
        return builder.finish()


class _Tree:
    """The merged tree, one directory at a time."""

    def __init__(
        self, sources: Sequence[tuple[int, Source]], linked: dict[LinkName, Found]
    ) -> None:
        self._sources = [source for _, source in sources]
        self._linked = linked
        self._shared = {_identity(found) for found in linked.values()}

    def root(self) -> Item:
        merged = root_of(self._sources)
        if merged is None:
            return Item(b"", 0o40755, handle=())
        return self._item(b"", merged)

    def children(self, item: Item) -> list[Item]:
        directory: Directory = item.handle  # type: ignore[assignment] # what _item put there
        names: dict[bytes, list[Found]] = {}
        for source, handle in directory:
            for found in source.children(handle):
                names.setdefault(found.name, []).append(found)
        merged = ((name, combine(names[name])) for name in sorted(names))
        return [self._item(name, each) for name, each in merged if each is not None]

    def _item(self, name: bytes, merged: Merged) -> Item:
        shown = merged.shown
        if shown.node is None:
            shown = self._linked[_link_name(shown)]
        node = shown.node
        assert node is not None
        identity = _identity(shown)
        several = not shown.is_directory and (node.nlink > 1 or identity in self._shared)
        return Item(
            name,
            node.mode,
            node.uid,
            node.gid,
            node.mtime_ns,
            node.size,
            *node.rdev,
            shown.digest,
            shown.layer.xattrs(shown),
            shown.target,
            0,
            merged.directory,
            identity if several else None,
        )


def _identity(found: Found) -> tuple[int, int]:
    assert found.node is not None
    return found.layer.index, found.node.ino


def _link_name(found: Found) -> LinkName:
    return found.layer.index, found.handle, found.name


def _linked_files(
    layers: Sequence[Layer], sources: Sequence[tuple[int, Source]]
) -> dict[LinkName, Found]:
    """The files that pending hard links stand for.

    Each is looked for in the layers below its own; a link that comes before its file in the
    same layer finds it there, when the layers below have nothing of that path.
    """
    linked: dict[LinkName, Found] = {}
    for layer in layers:
        below = [source for index, source in sources if index < layer.index]
        with_own = [source for index, source in sources if index <= layer.index]
        for parent, name, path in layer.reader.pending_links():
            found = _file_at(path, below, linked) or _file_at(path, with_own, linked)
            if found is None:
                raise InvalidEntry(
                    f"layer {layer.index + 1} has a hard link {rules.shown(name)} to "
                    f"{rules.shown(path)}, which is no file in it or in the layers below"
                )
            linked[layer.index, parent, name] = found
    return linked


def _file_at(path: bytes, sources: Sequence[Source], linked: dict[LinkName, Found]) -> Found | None:
    root = root_of(sources)
    if root is None:
        return None
    parts = path.split(b"/")
    start: list[Step] = [(b"", root.directory)]
    merged = step(resolve(start, parts[:-1])[-1][1], parts[-1])
    if merged is None or merged.shown.is_directory:
        return None
    if merged.shown.node is None:
        return linked.get(_link_name(merged.shown))
    return merged.shown


def _add_contents(builder: CatalogBuilder, layers: Sequence[CatalogReader]) -> None:
    """Bring the contents that the root uses; the lowest layer that has one says where it is."""
    builder.number_contents()
    for reader in layers:
        for ref in reader.objects():
            builder.add_object(ref)
        for _, content in reader.contents():
            if builder.uses(content.digest):
                builder.add_content(content)
