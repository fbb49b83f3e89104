"""Numbering a tree: one walk, depth first in name order, from items to rows of a catalog."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from catalog.model import ROOT_INO

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from catalog.build import CatalogBuilder

DIRECTORY: Final = stat.S_IFDIR
FILE_TYPE: Final = 0o170000


@dataclass(slots=True)
class Item:
    """One name on its way into a catalog.

    Attributes:
        name: in its directory; empty for the root.
        mode: as in ``st_mode``; 0 is a pending hard link, of which only ``target`` counts.
        uid: owner.
        gid: group.
        mtime_ns: nanoseconds since the epoch.
        size: bytes of a file's body or a symlink's target.
        major: of a device.
        minor: of a device.
        digest: of a file's body, or ``None``.
        xattrs: as :func:`catalog.xattrs.pack` packs them.
        target: of a symlink or a pending hard link, else empty.
        flags: ``FLAG_*`` of a layer's directory.
        handle: what the tree's ``children`` needs to list a directory.
        link: equal for all names of one inode; ``None`` where there is only this name.
    """

    name: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    major: int = 0
    minor: int = 0
    digest: bytes | None = None
    xattrs: bytes = b""
    target: bytes = b""
    flags: int = 0
    handle: object = None
    link: Hashable = None

    @property
    def is_directory(self) -> bool:
        """Whether it has children."""
        return self.mode & FILE_TYPE == DIRECTORY


def emit(builder: CatalogBuilder, root: Item, children: Callable[[Item], list[Item]]) -> None:
    """Hand a whole tree to a builder.

    Args:
        builder: takes the rows.
        root: the root directory.
        children: lists a directory, ascending by name; called once for each, in walking order.

    Memory: the directories on one path, and one number for each inode with several names.
    """
    _Emission(builder, children).run(root)


class _Emission:
    def __init__(self, builder: CatalogBuilder, children: Callable[[Item], list[Item]]) -> None:
        self._builder = builder
        self._children = children
        self._last_ino = ROOT_INO
        self._links: dict[Hashable, list[int]] = {}

    def run(self, root: Item) -> None:
        stack = [(ROOT_INO, self._enter(ROOT_INO, root))]
        while stack:
            parent, items = stack[-1]
            for item in items:
                if item.mode & FILE_TYPE != DIRECTORY:
                    self._place(parent, item)
                else:
                    ino = self._number(parent, item)
                    stack.append((ino, self._enter(ino, item)))
                    break
            else:
                stack.pop()
        counts = ((names, ino) for ino, names in self._links.values() if names > 1)
        self._builder.set_nlinks(counts)

    def _enter(self, ino: int, item: Item) -> Iterator[Item]:
        items = self._children(item)
        subdirectories = sum(child.mode & FILE_TYPE == DIRECTORY for child in items)
        self._builder.inode(ino, item, 2 + subdirectories)
        return iter(items)

    def _number(self, parent: int, item: Item) -> int:
        self._last_ino += 1
        self._builder.name(parent, item.name, self._last_ino)
        return self._last_ino

    def _place(self, parent: int, item: Item) -> None:
        """Take a name of what is no directory, and its inode when this is its first name."""
        if item.mode == 0:
            self._builder.pending_link(parent, item.name, item.target)
            return
        if item.link is not None:
            known = self._links.get(item.link)
            if known is not None:
                known[1] += 1
                self._builder.name(parent, item.name, known[0])
                return
            self._links[item.link] = [self._last_ino + 1, 1]
        self._builder.inode(self._number(parent, item), item, 1)
