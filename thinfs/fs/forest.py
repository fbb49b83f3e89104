"""The directories of a daemon's mount that are no image's: ``/``, ``/trees``, ``/contents``."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from catalog.model import ROOT_INO, DirEntry, Node
from thinfs.errors import MissingError
from thinfs.fs.contents import ContentNames
from thinfs.fs.errnos import NotALink, NotRegular
from thinfs.fs.filesystem import SLOT_BITS, Served

if TYPE_CHECKING:
    from catalog.model import Xattrs
    from thinfs.fs.filesystem import Body, FileSystem

TREES: Final = "trees"
CONTENTS: Final = "contents"
_TREES_INO: Final = 2
_CONTENTS_INO: Final = 3
_FANS_INO: Final = 256
"""And the 255 numbers that follow: ``/contents/00`` to ``/contents/ff``."""

_FANS: Final = range(_FANS_INO, _FANS_INO + 256)
_HEX_BYTE: Final = re.compile(rb"[0-9a-f]{2}\Z")
_HEX_DIGEST: Final = re.compile(rb"[0-9a-f]{64}\Z")


class Forest:
    """``/trees/<id>``, the roots of what is planted, and ``/contents/<aa>/<sha256>``.

    The directories are open to the daemon's user only: trees hold what images hold, setuid
    programs among it. Containers get at trees and contents through mounts of their own.

    Contents are found by name and not listed: there may be millions. A digest that no planted
    tree has is an error and not a missing file: whoever asks has a file with that body, and
    would believe that it does not exist.

    Implements :class:`thinfs.fs.filesystem.Tree` for slot 0.

    Args:
        mtime_ns: of the directories.
        contents: what is found below ``/contents``.
    """

    def __init__(self, mtime_ns: int, contents: ContentNames | None = None) -> None:
        self._mtime_ns = mtime_ns
        self._planted: dict[bytes, tuple[int, Served]] = {}
        self._contents = contents or ContentNames(mtime_ns)

    def served(self) -> Served:
        """This tree for :class:`thinfs.fs.filesystem.FileSystem`."""
        changing, growing = frozenset({_TREES_INO}), frozenset(_FANS)
        return Served(
            self,
            _no_body,
            changing=changing,
            growing=growing,
            grown=self._content,
            inodes=3 + len(_FANS),
        )

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
        """One of the directories."""
        is_ours = ino in (ROOT_INO, _TREES_INO, _CONTENTS_INO) or ino in _FANS
        return self._directory(ino) if is_ours else None

    def lookup(self, parent: int, name: bytes, /) -> Node | None:
        """A directory, or a tree's root in ``/trees``."""
        if parent == ROOT_INO:
            ino = {b"trees": _TREES_INO, b"contents": _CONTENTS_INO}.get(name)
            return None if ino is None else self._directory(ino)
        if parent == _CONTENTS_INO:
            fan = _HEX_BYTE.match(name)
            return None if fan is None else self._directory(_FANS_INO + int(name, 16))
        planted = self._planted.get(name)
        return None if planted is None else _root(*planted)

    def readdir(self, ino: int, after: int, limit: int, /) -> list[DirEntry]:
        """Names in the order in which they came; cookies are slots, which only grow."""
        if ino == ROOT_INO:
            names = ((TREES, _TREES_INO), (CONTENTS, _CONTENTS_INO))
            all_entries = [
                DirEntry(name.encode(), self._directory(number), at)
                for at, (name, number) in enumerate(names, 1)
            ]
            return all_entries[after : after + limit]
        if ino != _TREES_INO:
            return []
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
        """No directory has any."""
        return ()

    async def _content(self, directory: int, name: bytes) -> Node | None:
        """A content by its digest.

        Raises:
            MissingError: no root has a content with this digest.
            ThinfsError: it is not known yet, and what would tell could not be had.
        """
        if not _HEX_DIGEST.match(name) or int(name[:2], 16) != directory - _FANS_INO:
            return None
        node = await self._contents.find(bytes.fromhex(name.decode()))
        if node is None:
            raise MissingError(f"no attached root has content {name.decode()}")
        return node

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
