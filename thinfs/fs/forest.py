"""The directories around the trees of a daemon's mount: ``/`` and ``/trees``."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from catalog.model import ROOT_INO, DirEntry, Node
from thinfs.fs.errnos import NotALink, NotRegular
from thinfs.fs.filesystem import SLOT_BITS, Served

if TYPE_CHECKING:
    from catalog.model import Xattrs
    from thinfs.fs.filesystem import Body, FileSystem

TREES: Final = "trees"
_TREES_INO: Final = 2


class Forest:
    """``/`` and ``/trees/<id>``, the latter the roots of what is planted.

    Both directories are open to the daemon's user only: trees hold what images hold, setuid
    programs among it. Containers get at trees through mounts of their own.

    Implements :class:`thinfs.fs.filesystem.Tree` for slot 0.

    Args:
        mtime_ns: of the two directories.
    """

    def __init__(self, mtime_ns: int) -> None:
        self._mtime_ns = mtime_ns
        self._planted: dict[bytes, tuple[int, Served]] = {}

    def served(self) -> Served:
        """This tree for :class:`thinfs.fs.filesystem.FileSystem`."""
        return Served(self, _no_body, changing=frozenset({_TREES_INO}), inodes=2)

    def plant(self, filesystem: FileSystem, slot: int, name: str, served: Served) -> None:
        """Show a tree's root as ``/trees/<name>``."""
        filesystem.attach(slot, served)
        self._planted[os.fsencode(name)] = (slot, served)

    def fell(self, filesystem: FileSystem, name: str) -> None:
        """Take ``/trees/<name>`` away; nothing happens when it is not there."""
        planted = self._planted.pop(os.fsencode(name), None)
        if planted is not None:
            filesystem.detach(planted[0])

    def node(self, ino: int, /) -> Node | None:
        """``/`` or ``/trees``."""
        return self._directory(ino) if ino in (ROOT_INO, _TREES_INO) else None

    def lookup(self, parent: int, name: bytes, /) -> Node | None:
        """``trees`` in ``/``, a tree's root in ``/trees``."""
        if parent == ROOT_INO:
            return self.node(_TREES_INO) if name == TREES.encode() else None
        planted = self._planted.get(name)
        return None if planted is None else _root(*planted)

    def readdir(self, ino: int, after: int, limit: int, /) -> list[DirEntry]:
        """Names in the order in which they came; cookies are slots, which only grow."""
        if ino == ROOT_INO:
            trees = self._directory(_TREES_INO)
            return [DirEntry(TREES.encode(), trees, 1)] if after == 0 else []
        entries = (
            DirEntry(name, root, slot)
            for name, (slot, served) in sorted(self._planted.items(), key=lambda item: item[1][0])
            if slot > after and (root := _root(slot, served)) is not None
        )
        return list(entries)[:limit]

    def readlink(self, ino: int, /) -> bytes:
        """There are no links here."""
        raise NotALink(f"inode {ino:#x} is a directory")

    def xattrs(self, ino: int, /) -> Xattrs:  # noqa: ARG002 - as Tree
        """Neither directory has any."""
        return ()

    def _directory(self, ino: int) -> Node:
        return Node(
            ino=ino,
            mode=stat.S_IFDIR | 0o700,
            uid=os.geteuid(),
            gid=os.getegid(),
            mtime_ns=self._mtime_ns,
            size=0,
            nlink=1,  # as file systems say that do not count; so attributes never change
            rdev=(0, 0),
            content_id=0,
            has_xattrs=False,
        )


def _root(slot: int, served: Served) -> Node | None:
    """A tree's root with the number it has in the whole file system."""
    node = served.tree.node(ROOT_INO)
    return None if node is None else replace(node, ino=slot << SLOT_BITS | ROOT_INO)


def _no_body(content_id: int) -> Body:
    raise NotRegular(f"the mount's own directories have no content {content_id}")
