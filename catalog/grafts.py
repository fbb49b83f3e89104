"""Paths of a layer that lead through symlinks of the layers below.

A layer may hold ``lib/x`` and never name ``lib``. Where ``lib`` is a symlink to ``usr/lib`` in the
layers below, applying that layer follows the symlink: the file is at ``usr/lib/x`` in the end.
(Unpackers that work on the whole tree do so: umoci, containerd's native snapshotter. containerd's
overlayfs snapshotter applies a layer to an empty upper directory, sees no symlink there, and makes
a directory that hides it: measured with containerd 1.6.20.)
So the implied directory ``lib`` of that layer is *grafted*: hidden where it stands, and shown at
the symlink's target by a source of its own, just below its layer (names that the layer itself
has at the target go first).
"""

from __future__ import annotations

import stat
from collections import deque
from typing import TYPE_CHECKING, Final

from catalog import rules, schema
from catalog.errors import InvalidEntry
from catalog.layers import Directory, Found, Layer, Merged, Source, root_of, step
from catalog.model import MAX_PATH_DEPTH, ROOT_INO, Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_GRAFTS: Final = 1024
"""Most grafts in one image: each makes every directory on its way one source deeper."""

_ANY_IMPLIED = "SELECT 1 FROM inode WHERE ino <> 1 AND flags & 2 LIMIT 1"
_ON_THE_WAY = Node(
    0, stat.S_IFDIR | 0o755, 0, 0, 0, 0, 2, (0, 0), 0, has_xattrs=False, implied=True
)

Step = tuple[bytes, Directory]
"""A directory on a path: its name (empty for the root) and what it is made of, if it exists."""


class Graft:
    """A source that shows one directory of a layer at another path.

    Its own directories, those on the way, have the negative numbers -1, -2 …; those inside the
    grafted directory keep the numbers that the layer gives them.
    """

    def __init__(self, layer: Layer, leaf: Found, path: Sequence[bytes]) -> None:
        self._layer = layer
        self._leaf = leaf
        self._path = tuple(path)
        self.root = -1 if self._path else leaf.handle

    def root_found(self) -> Found:
        """The root directory, implied as all on the way to the graft."""
        return self._on_the_way(b"", self.root)

    def children(self, handle: int) -> Iterator[Found]:
        """What a directory holds."""
        if handle < 0:
            yield self._next(handle)
            return
        for found in self._layer.children(handle):
            found.source = self
            yield found

    def find(self, handle: int, name: bytes) -> Found | None:
        """What a directory holds under one name."""
        if handle < 0:
            return self._next(handle) if self._path[-handle - 1] == name else None
        found = self._layer.find(handle, name)
        if found is not None:
            found.source = self
        return found

    def _next(self, handle: int) -> Found:
        name = self._path[-handle - 1]
        if -handle == len(self._path):
            return self._on_the_way(name, self._leaf.handle)
        return self._on_the_way(name, handle - 1)

    def _on_the_way(self, name: bytes, handle: int) -> Found:
        node = self._leaf.node if handle > 0 else _ON_THE_WAY
        return Found(name, node, self._layer, self, handle)


def with_grafts(layers: Sequence[Layer]) -> list[tuple[int, Source]]:
    """All sources of an image as (index of the layer, source), top first.

    Raises:
        InvalidEntry: a path leads through a file or a loop of symlinks, or there are too many
            grafts.
    """
    sources: list[tuple[int, Source]] = []
    count = 0
    for layer in layers:
        below = [source for _, source in sources]
        grafts = _Search(layer, below).run() if below else []
        count += len(grafts)
        if count > MAX_GRAFTS:
            raise InvalidEntry(f"more than {MAX_GRAFTS} directories lead through symlinks")
        sources[:0] = [(layer.index, layer), *((layer.index, graft) for graft in grafts)]
    return sources


def resolve(start: Sequence[Step], parts: Sequence[bytes]) -> list[Step]:
    """Follow a path in a merged tree as containerd's fs.RootPath does: never out of the root.

    Args:
        start: the directories from the root to where the path begins, at least the root.
        parts: components; all of them are followed when they are symlinks.

    Returns:
        The directories from the root to the end of the path, existing or not.

    Raises:
        InvalidEntry: a component is no directory, or symlinks make a loop.
    """
    steps = list(start)
    todo = deque(parts)
    hops = 0
    while todo:
        part = todo.popleft()
        if part in (b"", b"."):
            continue
        if part == b"..":
            if len(steps) > 1:
                steps.pop()
            continue
        if not rules.is_name(part) or len(steps) >= MAX_PATH_DEPTH:
            raise InvalidEntry(f"a path through symlinks ends at {rules.shown(part)}")
        merged = step(steps[-1][1], part)
        if merged is not None and merged.shown.is_symlink:
            hops += 1
            _follow(merged.shown.target, steps, todo, hops)
        elif merged is not None and not merged.shown.is_directory:
            raise InvalidEntry(f"a path leads through {rules.shown(part)}, which is no directory")
        else:
            steps.append((part, merged.directory if merged is not None else ()))
    return steps


def _follow(target: bytes, steps: list[Step], todo: deque[bytes], hops: int) -> None:
    if hops > schema.MAX_SYMLINK_HOPS:
        raise InvalidEntry(f"a loop of symlinks at {rules.shown(target)}")
    if target.startswith(b"/"):
        del steps[1:]
    todo.extendleft(reversed(target.split(b"/")))


class _Search:
    """Looks for implied directories of one layer that are symlinks in the layers below."""

    def __init__(self, layer: Layer, below: Sequence[Source]) -> None:
        self._layer = layer
        self._below = below
        self._grafts: list[Graft] = []

    def run(self) -> list[Graft]:
        if not any(self._layer.reader.query(_ANY_IMPLIED)):
            return []
        root = root_of(self._below)
        assert root is not None
        hidden = self._layer.root_found().node
        assert hidden is not None
        steps: tuple[Step, ...] = ((b"", () if hidden.opaque else root.directory),)
        stack: list[tuple[int, tuple[Step, ...]]] = [(ROOT_INO, steps)]
        while stack:
            handle, steps = stack.pop()
            stack.extend(self._visit(handle, steps))
        return self._grafts

    def _visit(self, handle: int, steps: tuple[Step, ...]) -> list[tuple[int, tuple[Step, ...]]]:
        """Look at one directory; answers those to look at next, the first of them last."""
        todo = []
        for found in list(self._layer.children(handle)):
            if found.is_directory and steps[-1][1]:
                merged = step(steps[-1][1], found.name)
                todo.append((found.handle, self._below_of(found, merged, steps)))
        return todo[::-1]

    def _below_of(
        self, found: Found, merged: Merged | None, steps: tuple[Step, ...]
    ) -> tuple[Step, ...]:
        """Where a directory of the layer is in the tree below, grafting it if need be."""
        assert found.node is not None
        if merged is not None and merged.shown.is_symlink and found.node.implied:
            steps = self._graft(found, merged.shown.target, steps)
        else:
            steps = (*steps, (found.name, merged.directory if merged is not None else ()))
        if found.node.opaque:
            steps = (*steps[:-1], (steps[-1][0], ()))
        return steps

    def _graft(self, found: Found, target: bytes, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        start = steps[:1] if target.startswith(b"/") else steps
        resolved = resolve(start, target.split(b"/"))
        path = [name for name, _ in resolved[1:]]
        self._grafts.append(Graft(self._layer, found, path))
        self._layer.grafted.add(found.handle)
        return tuple(resolved)
