"""The read-only file system in our own terms: inode numbers, names, attributes and bodies.

Inode numbers are stateless: ``slot << 40 | number in that slot's tree``. A slot stands for one
tree for as long as the daemon's state lives, so whoever serves the mount next answers for every
number given out before; those of contents come from their digests (:mod:`thinfs.fs.contents`).
File handles are inode numbers for the same reason. The tree in slot 0
is the mount's own: number 1 there is the mountpoint. It may hold numbers of other slots.

What waits is a coroutine; names and attributes of trees come from local catalogs.
"""

from __future__ import annotations

import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from thinfs.errors import ThinfsError
from thinfs.fs.contents import NUMBER_BITS, ContentNames, is_content
from thinfs.fs.errnos import NotALink, NotRegular, StaleInode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from catalog.model import DirEntry, Node, Xattrs

SLOT_BITS: Final = 40
"""Numbers inside a slot are smaller than ``1 << SLOT_BITS``."""

MAX_SLOT: Final = (1 << (NUMBER_BITS - SLOT_BITS)) - 1
"""The highest slot: above are the numbers of contents."""

_NUMBER: Final = (1 << SLOT_BITS) - 1

OVERLAY_XATTRS: Final = (b"trusted.overlay.", b"user.overlay.")
"""What overlayfs would take as orders; an image's own are never passed on."""

FAIL_AGAIN_S: Final = 1.0
"""How long a failed read is remembered, for the kernel's second try, which follows at once."""

DOTS: Final = 2
"""Cookies that ``.`` and ``..`` take before the tree's own."""


class Tree(Protocol):
    """Names and attributes of one tree, as :class:`catalog.reader.CatalogReader` has them."""

    def node(self, ino: int, /) -> Node | None:
        """The inode with this number."""
        ...

    def lookup(self, parent: int, name: bytes, /) -> Node | None:
        """What a name in a directory stands for."""
        ...

    def readdir(self, ino: int, after: int, limit: int, /) -> list[DirEntry]:
        """At most ``limit`` entries behind the cookie ``after`` (0: from the start)."""
        ...

    def readlink(self, ino: int, /) -> bytes:
        """Target of a symbolic link."""
        ...

    def xattrs(self, ino: int, /) -> Xattrs:
        """All extended attributes."""
        ...


class Body(Protocol):
    """The bytes of one regular file."""

    async def read(self, offset: int, length: int, /) -> bytes:
        """Bytes from ``offset``; fewer than ``length`` only at the end of the file."""
        ...

    def close(self) -> None:
        """Nobody reads any more."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """One tree and what belongs to it.

    Attributes:
        tree: names and attributes.
        open_body: gives the body with a ``content_id`` of the tree; must not wait.
        changing: numbers of directories whose names come and go; all else never changes, so
            the kernel may keep it.
        growing: numbers of directories in which a name, once found, stays what it is, while a
            missing one may come.
        grown: looks a name up in one of those; may wait.
        file_bytes: sum of the sizes of all files, for ``statfs``.
        inodes: how many there are, for ``statfs``.
    """

    tree: Tree
    open_body: Callable[[int], Body]
    changing: frozenset[int] = frozenset()
    growing: frozenset[int] = frozenset()
    grown: Callable[[int, bytes], Awaitable[Node | None]] | None = None
    file_bytes: int = 0
    inodes: int = 0


class Name(NamedTuple):
    """One entry of a listing.

    Attributes:
        name: as in the directory.
        inode: number in the whole file system.
        node: attributes; its own ``ino`` says nothing here.
        cookie: position after this entry, at least 1.
    """

    name: bytes
    inode: int
    node: Node
    cookie: int


class _NoBytes:
    """The body of an empty file."""

    async def read(self, offset: int, length: int, /) -> bytes:  # noqa: ARG002 - as Body
        return b""

    def close(self) -> None:
        pass


class FileSystem:
    """Answers what the kernel asks. Inode numbers that no slot stands for are stale.

    Args:
        top: the tree in slot 0, which holds the mountpoint. Only its directories may change.
        now: a clock, in seconds.
        contents: finds contents by digest, over all slots.
    """

    def __init__(
        self,
        top: Served,
        now: Callable[[], float] = time.monotonic,
        contents: ContentNames | None = None,
    ) -> None:
        self._slots = {0: top}
        self._changing = top.changing
        self._unsure = top.changing | top.growing
        self._growing = top.growing
        self._grown = top.grown
        self._contents = contents or ContentNames()
        self._handles: dict[int, int] = {}
        self._bodies: dict[int, Body] = {}
        self._failed: dict[int, tuple[int, float, ThinfsError]] = {}
        self._now = now

    def attach(self, slot: int, served: Served) -> None:
        """Serve a tree. A slot is never given to another tree."""
        assert 0 < slot <= MAX_SLOT
        assert slot not in self._slots
        self._slots[slot] = served

    def detach(self, slot: int) -> None:
        """Stop serving a tree: its numbers are stale from now on, its bodies closed."""
        self._slots.pop(slot, None)
        for inode in [inode for inode in self._handles if inode >> SLOT_BITS == slot]:
            del self._handles[inode]
        for inode in [inode for inode in self._bodies if inode >> SLOT_BITS == slot]:
            self._bodies.pop(inode).close()

    def reopen_contents(self) -> None:
        """Close bodies of contents before the root goes that some of them were opened through.

        The next read opens them again, through another root that has the same content.
        """
        for inode in [inode for inode in self._bodies if is_content(inode)]:
            self._bodies.pop(inode).close()

    def names_last(self, directory: int) -> bool:
        """Whether what a name in a directory stands for is the same for ever."""
        return directory not in self._changing

    def absence_lasts(self, directory: int) -> bool:
        """Whether a name that a directory does not have will never be there."""
        return directory not in self._unsure

    def node(self, inode: int) -> Node:
        """Attributes of an inode.

        Raises:
            StaleInode: there is no such inode (any more); so do all other methods.
        """
        if is_content(inode):
            return self._contents.node(inode)
        node = self._served(inode).tree.node(inode & _NUMBER)
        if node is None:
            raise StaleInode(f"inode {inode:#x} does not exist")
        return node

    def forget(self, inode: int, lookups: int) -> None:
        """The kernel takes back ``lookups`` answers that named an inode."""
        if is_content(inode):
            self._contents.forget(inode, lookups)

    def lookup(self, parent: int, name: bytes) -> tuple[int, Node] | None:
        """Inode number and attributes of a name; ``None`` when the directory has no such name."""
        node = self._served(parent).tree.lookup(parent & _NUMBER, name)
        return None if node is None else (_inode(parent, node), node)

    async def find(self, parent: int, name: bytes) -> tuple[int, Node] | None:
        """The same in any directory: in those that grow it may have to wait for what is there.

        Raises:
            ThinfsError: it could not be had.
        """
        if parent not in self._growing or self._grown is None:
            return self.lookup(parent, name)
        node = await self._grown(parent, name)
        return None if node is None else (_inode(parent, node), node)

    async def recall(self, inode: int) -> None:
        """Wait until it is known what a number of an earlier process stands for, if it is one.

        Raises:
            ThinfsError: it could not be had.
        """
        if is_content(inode):
            await self._contents.recall(inode)

    def readdir(self, inode: int, after: int, limit: int) -> list[Name]:
        """At most ``limit`` names of a directory behind the cookie ``after`` (0: the start).

        ``.`` and ``..`` come first. A tree does not know a directory's parent, and no one but
        the kernel, which has its own idea, uses the number listed for ``..``: it is the
        directory's own.
        """
        tree = self._served(inode).tree
        names: list[Name] = []
        if after < DOTS:
            here = self.node(inode)
            dots = (Name(b".", inode, here, 1), Name(b"..", inode, here, 2))
            names.extend(dots[after : after + limit])
        if len(names) < limit:
            found = tree.readdir(inode & _NUMBER, max(after - DOTS, 0), limit - len(names))
            names.extend(
                Name(entry.name, _inode(inode, entry.node), entry.node, entry.cookie + DOTS)
                for entry in found
            )
        return names

    def readlink(self, inode: int) -> bytes:
        """Target of a symbolic link.

        Raises:
            NotALink: it is something else.
        """
        if not stat.S_ISLNK(self.node(inode).mode):
            raise NotALink(f"inode {inode:#x} is no symbolic link")
        return self._served(inode).tree.readlink(inode & _NUMBER)

    def xattrs(self, inode: int) -> Xattrs:
        """Extended attributes but those that overlayfs would obey."""
        if is_content(inode) or not self.node(inode).has_xattrs:
            return ()
        found = self._served(inode).tree.xattrs(inode & _NUMBER)
        return tuple(xattr for xattr in found if not xattr[0].startswith(OVERLAY_XATTRS))

    def xattr(self, inode: int, name: bytes) -> bytes | None:
        """One extended attribute; ``None`` when the inode does not have it."""
        if name.startswith(OVERLAY_XATTRS):
            return None
        return next((value for key, value in self.xattrs(inode) if key == name), None)

    def open(self, inode: int) -> None:
        """Note one more handle of a regular file; :meth:`release` takes it back.

        The body is opened when it is read: what the kernel still has in memory never is.
        """
        if is_content(inode):
            self._contents.node(inode)
        else:
            self._served(inode)
        self._handles[inode] = self._handles.get(inode, 0) + 1

    async def read(self, inode: int, offset: int, length: int) -> bytes:
        """Bytes of a file; fewer than ``length`` only at its end.

        The file may have been opened by a process before this one.

        Raises:
            NotRegular: it is something else.
            ThinfsError: the bytes could not be had.
        """
        self._fail_again(inode, offset)
        body = self._bodies.get(inode)
        if body is None:
            await self.recall(inode)
            body = self._bodies.get(inode)
        if body is None:
            body = self._bodies[inode] = self._open_body(inode)
        try:
            return await body.read(offset, length)
        except ThinfsError as error:
            self._failed[inode] = (offset, self._now() + FAIL_AGAIN_S, error)
            raise

    def _fail_again(self, inode: int, offset: int) -> None:
        """Answer the kernel's own second try as the first one.

        When reading ahead fails, the kernel asks once more for the page that the reader wants:
        without this its reader waits twice for a repository that does not answer.
        """
        if self._failed and (failed := self._failed.pop(inode, None)) is not None:
            first, until, error = failed
            if first <= offset and self._now() < until:
                raise error

    def release(self, inode: int) -> None:
        """Take back one :meth:`open`; the last one closes the body."""
        left = self._handles.get(inode, 1) - 1
        if left:
            self._handles[inode] = left
            return
        self._handles.pop(inode, None)
        self._failed.pop(inode, None)
        body = self._bodies.pop(inode, None)
        if body is not None:
            body.close()

    def totals(self) -> tuple[int, int]:
        """Bytes in files and inodes of all trees."""
        served = self._slots.values()
        return sum(each.file_bytes for each in served), sum(each.inodes for each in served)

    def close(self) -> None:
        """Close every body that is open."""
        self._handles.clear()
        while self._bodies:
            self._bodies.popitem()[1].close()

    def _served(self, inode: int) -> Served:
        served = self._slots.get(inode >> SLOT_BITS)
        if served is None:
            raise StaleInode(f"inode {inode:#x} belongs to a tree that is not attached")
        return served

    def _open_body(self, inode: int) -> Body:
        if is_content(inode):
            return self._contents.open(inode)
        node = self.node(inode)
        if not stat.S_ISREG(node.mode):
            raise NotRegular(f"inode {inode:#x} is no regular file")
        if node.content_id == 0:
            return _NoBytes()
        return self._served(inode).open_body(node.content_id)


def _inode(parent: int, node: Node) -> int:
    return (parent & ~_NUMBER) | node.ino
