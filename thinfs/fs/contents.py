"""Contents by their digests, over all attached roots: what native roots read when it is not here.

An inode number is stateless as those of trees are: the slot of a root that has the content, the
bit :data:`CONTENT_BIT`, and the content's number in that root's catalog. The kernel may go on
using the number when that root is detached while another one has the same content, so for
numbers that the kernel knows the digest is remembered until it forgets them.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from catalog.model import Node
from thinfs.fs.errnos import StaleInode

if TYPE_CHECKING:
    from catalog.model import Content
    from thinfs.fs.filesystem import Served

SLOT_BITS: Final = 40
"""Numbers inside a slot are smaller than ``1 << SLOT_BITS``."""

CONTENT_BIT: Final = 1 << (SLOT_BITS - 1)
"""Set in the numbers of contents; inodes of trees are far fewer."""

CONTENT_MODE: Final = stat.S_IFREG | 0o444

_NUMBER: Final = CONTENT_BIT - 1


class ContentIndex(Protocol):
    """The contents of one root, as :class:`catalog.reader.CatalogReader` has them."""

    def content_id(self, digest: bytes, /) -> int | None:
        """The number of a content."""
        ...

    def content(self, content_id: int, /) -> Content:
        """A content by its number."""
        ...


@dataclass(slots=True)
class _Known:
    """What the kernel knows of one number.

    Attributes:
        digest: of the content.
        lookups: answers that named it and that the kernel has not taken back.
    """

    digest: bytes
    lookups: int = 0


class ContentNames:
    """Finds contents in attached roots, by digest or by number.

    Args:
        mtime_ns: of all contents, which have no time of their own.
    """

    def __init__(self, mtime_ns: int = 0) -> None:
        self._mtime_ns = mtime_ns
        self._slots: dict[int, tuple[Served, ContentIndex]] = {}
        self._known: dict[int, _Known] = {}

    def attach(self, slot: int, served: Served) -> None:
        """Find contents of a root from now on, if it can tell them."""
        if served.contents is not None:
            self._slots[slot] = (served, served.contents)

    def detach(self, slot: int) -> None:
        """Find them no longer."""
        self._slots.pop(slot, None)

    def lookup(self, digest: bytes) -> Node | None:
        """A content of any attached root; the caller tells the kernel its number."""
        for slot, (_, index) in self._slots.items():
            content_id = index.content_id(digest)
            if content_id is not None:
                number = slot << SLOT_BITS | CONTENT_BIT | content_id
                node = self._node(number, index.content(content_id))
                self._known.setdefault(number, _Known(digest)).lookups += 1
                return node
        return None

    def forget(self, inode: int, lookups: int) -> None:
        """The kernel takes back so many answers that named a number."""
        known = self._known.get(inode)
        if known is not None:
            known.lookups -= lookups
            if known.lookups <= 0:
                del self._known[inode]

    def node(self, inode: int) -> Node:
        """Attributes of a content.

        Raises:
            StaleInode: no attached root has it.
        """
        slot, content_id = self._find(inode)
        return self._node(inode, self._slots[slot][1].content(content_id))

    def served(self, inode: int) -> tuple[Served, int]:
        """A root that has a content, and the content's number there; raises as :meth:`node`."""
        slot, content_id = self._find(inode)
        return self._slots[slot][0], content_id

    def _find(self, inode: int) -> tuple[int, int]:
        if inode >> SLOT_BITS in self._slots:
            return inode >> SLOT_BITS, inode & _NUMBER
        known = self._known.get(inode)
        if known is not None:
            for slot, (_, index) in self._slots.items():
                content_id = index.content_id(known.digest)
                if content_id is not None:
                    return slot, content_id
        raise StaleInode(f"content {inode:#x} belongs to a root that is not attached")

    def _node(self, number: int, content: Content) -> Node:
        return Node(
            ino=number,
            mode=CONTENT_MODE,
            uid=os.geteuid(),
            gid=os.getegid(),
            mtime_ns=self._mtime_ns,
            size=content.size,
            nlink=1,
            rdev=(0, 0),
            content_id=number & _NUMBER,
            has_xattrs=False,
        )


def is_content(inode: int) -> bool:
    """Whether a number is that of a content."""
    return bool(inode & CONTENT_BIT)
