"""Contents by their digests, over all attached roots: what native roots read when it is not here.

An inode number is a function of the digest alone: :data:`CONTENT_BIT`, which no number of a
tree has, and the digest's first 62 bits. So it means the same to every process that serves the
mount, whichever roots are attached and whatever is known of them. Two contents with one number
can be made by who tries 2**31 times; the second one is refused, in both meanings.

The kernel may go on using a number when its root is detached while another one has the same
content, so for numbers that the kernel knows the digest is remembered until it forgets them.
One that an earlier process has given out is found again by the digest's beginning.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from catalog.model import DIGEST_BYTES, Node
from thinfs.errors import IntegrityError
from thinfs.fs.errnos import StaleInode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thinfs.fs.filesystem import Body

NUMBER_BITS: Final = 62

CONTENT_BIT: Final = 1 << NUMBER_BITS
"""Set in the numbers of contents, and in no others; they stay positive as signed 64-bit ones."""

CONTENT_MODE: Final = stat.S_IFREG | 0o444

_KEY_BYTES: Final = 8
_LEFT_OUT: Final = 8 * _KEY_BYTES - NUMBER_BITS
_SEVERAL: Final = 2


class ContentIndex(Protocol):
    """The contents of one root."""

    def size(self, digest: bytes, /) -> int | None:
        """Bytes of a content, ``None`` if the root has none with this digest."""
        ...

    def digests_from(self, first: bytes, limit: int, /) -> list[bytes]:
        """Digests from ``first`` on, ascending, at most ``limit``."""
        ...

    def open(self, digest: bytes, /) -> Body:
        """The body of a content that the root has; must not wait."""
        ...


@dataclass(slots=True)
class _Known:
    """What the kernel knows of one number.

    Attributes:
        digest: of the content.
        size: of the content.
        lookups: answers that named it and that the kernel has not taken back.
    """

    digest: bytes
    size: int
    lookups: int = 0


class ContentNames:
    """Finds contents in attached roots, by digest or by number.

    Args:
        mtime_ns: of all contents, which have no time of their own.
        inherits: whether the kernel may know numbers that an earlier process has given out.
    """

    def __init__(self, mtime_ns: int = 0, *, inherits: bool = False) -> None:
        self._mtime_ns = mtime_ns
        self._inherits = inherits
        self._roots: dict[str, ContentIndex] = {}
        self._known: dict[int, _Known] = {}

    def attach(self, root_id: str, index: ContentIndex) -> None:
        """Find contents of a root from now on."""
        self._roots[root_id] = index

    def detach(self, root_id: str) -> None:
        """Find them no longer; whoever does this has the bodies of contents closed."""
        self._roots.pop(root_id, None)

    def lookup(self, digest: bytes) -> Node | None:
        """Attributes of a content of any attached root; the caller tells the kernel its number.

        Raises:
            IntegrityError: another content has the same number.
        """
        number = inode_number(digest)
        known = self._known.get(number)
        if known is None:
            found = self._having(digest)
            if found is None:
                return None
            self._refuse_namesakes(number, digest)
            known = self._known[number] = _Known(digest, found[1])
        elif known.digest != digest:
            raise _namesakes(number, known.digest, digest)
        elif self._having(digest) is None:
            return None
        known.lookups += 1
        return self._node(number, known.size)

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
            IntegrityError: it cannot be told which of two contents this number was.
        """
        _, size = self._found(inode)
        return self._node(inode, size)

    def open(self, inode: int) -> Body:
        """The body of a content; raises as :meth:`node`."""
        index, _ = self._found(inode)
        return index.open(self._digest(inode))

    def _found(self, inode: int) -> tuple[ContentIndex, int]:
        found = self._having(self._digest(inode))
        if found is None:
            raise StaleInode(f"content {inode:#x} belongs to a root that is not attached")
        return found

    def _having(self, digest: bytes) -> tuple[ContentIndex, int] | None:
        for index in self._roots.values():
            size = index.size(digest)
            if size is not None:
                return index, size
        return None

    def _digest(self, inode: int) -> bytes:
        known = self._known.get(inode)
        if known is not None:
            return known.digest
        found = self._namesakes(inode, self._roots.values())
        if not found:
            raise StaleInode(f"content {inode:#x} belongs to a root that is not attached")
        if len(found) > 1:
            raise _namesakes(inode, *sorted(found)[:_SEVERAL])
        return found.pop()

    def _refuse_namesakes(self, number: int, digest: bytes) -> None:
        """Before the kernel hears of a number it may know already, from an earlier process."""
        if self._inherits:
            others = self._namesakes(number, self._roots.values()) - {digest}
            if others:
                raise _namesakes(number, others.pop(), digest)

    def _namesakes(self, number: int, roots: Iterable[ContentIndex]) -> set[bytes]:
        """Digests that have a number; of each root two at most."""
        first = first_digest(number)
        return {
            digest
            for index in roots
            for digest in index.digests_from(first, _SEVERAL)
            if inode_number(digest) == number
        }

    def _node(self, number: int, size: int) -> Node:
        return Node(
            ino=number,
            mode=CONTENT_MODE,
            uid=os.geteuid(),
            gid=os.getegid(),
            mtime_ns=self._mtime_ns,
            size=size,
            nlink=1,
            rdev=(0, 0),
            content_id=0,
            has_xattrs=False,
        )


def inode_number(digest: bytes) -> int:
    """The number of the content with a digest."""
    return CONTENT_BIT | int.from_bytes(digest[:_KEY_BYTES], "big") >> _LEFT_OUT


def first_digest(inode: int) -> bytes:
    """The smallest digest that has a number."""
    key = (inode & ~CONTENT_BIT) << _LEFT_OUT
    return key.to_bytes(_KEY_BYTES, "big").ljust(DIGEST_BYTES, b"\0")


def is_content(inode: int) -> bool:
    """Whether a number is that of a content."""
    return bool(inode & CONTENT_BIT)


def _namesakes(number: int, one: bytes, other: bytes) -> IntegrityError:
    return IntegrityError(
        f"contents {one.hex()} and {other.hex()} have the same inode number {number:#x}: refused"
    )
