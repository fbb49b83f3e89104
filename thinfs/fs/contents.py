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

import trio

from catalog.model import DIGEST_BYTES, Node
from thinfs.errors import IntegrityError, ThinfsError
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

    @property
    def complete(self) -> bool:
        """Whether the root knows all of its contents."""
        ...

    async def more(self) -> None:
        """Wait until it does; raises :class:`~thinfs.errors.ThinfsError` if that fails."""
        ...


@dataclass(slots=True)
class _Known:
    """What the kernel knows of one number.

    Attributes:
        digest: of the content.
        size: of the content.
        index: of a root that has it; ``None`` when that root is gone.
        lookups: answers that named it and that the kernel has not taken back.
    """

    digest: bytes
    size: int
    index: ContentIndex | None
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
        gone = self._roots.pop(root_id, None)
        for known in self._known.values():
            if known.index is gone:
                known.index = None

    def lookup(self, digest: bytes) -> Node | None:
        """Attributes of a content that is known; the caller tells the kernel its number.

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
            index, size = found
            known = self._known[number] = _Known(digest, size, index)
        elif known.digest != digest:
            raise _namesakes(number, known.digest, digest)
        elif self._index(known) is None:
            return None
        known.lookups += 1
        return self._node(number, known.size)

    async def find(self, digest: bytes) -> Node | None:
        """The same, when those roots have been waited for that do not know all contents yet.

        Raises:
            IntegrityError: as :meth:`lookup`.
            ThinfsError: what is missing could not be had.
        """
        while (found := self.lookup(digest)) is None and await self._learned():
            pass
        return found

    async def recall(self, inode: int) -> None:
        """Wait until it is known which content a number is that an earlier process gave out.

        Raises:
            IntegrityError: it cannot be told which of two contents this number was.
            ThinfsError: what is missing could not be had.
        """
        if inode in self._known:
            return
        while not self._namesakes(inode, self._roots.values()) and await self._learned():
            pass

    async def _learned(self) -> bool:
        """Wait until one more root knows all of its contents; whether there was any to wait for.

        Raises:
            ThinfsError: none of them does.
        """
        ignorant = [index for index in self._roots.values() if not index.complete]
        failures: list[ThinfsError] = []

        async def learn(index: ContentIndex) -> None:
            try:
                await index.more()
            except ThinfsError as error:
                failures.append(error)
            else:
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for index in ignorant:
                nursery.start_soon(learn, index)
        if failures and len(failures) == len(ignorant):
            raise failures[0]
        return bool(ignorant)

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
        return self._node(inode, self._found(inode).size)

    def open(self, inode: int) -> Body:
        """The body of a content; raises as :meth:`node`."""
        known = self._found(inode)
        assert known.index is not None
        return known.index.open(known.digest)

    def _found(self, inode: int) -> _Known:
        """A number that leads to a content of an attached root."""
        known = self._known.get(inode) or self._inherited(inode)
        if self._index(known) is None:
            raise StaleInode(f"content {inode:#x} belongs to a root that is not attached")
        return known

    def _index(self, known: _Known) -> ContentIndex | None:
        if known.index is None:
            found = self._having(known.digest)
            known.index = None if found is None else found[0]
        return known.index

    def _having(self, digest: bytes) -> tuple[ContentIndex, int] | None:
        for index in self._roots.values():
            size = index.size(digest)
            if size is not None:
                return index, size
        return None

    def _inherited(self, inode: int) -> _Known:
        """A number that an earlier process has given out."""
        found = self._namesakes(inode, self._roots.values())
        if not found:
            raise StaleInode(f"content {inode:#x} belongs to a root that is not attached")
        if len(found) > 1:
            raise _namesakes(inode, *sorted(found)[:_SEVERAL])
        digest = found.pop()
        index, size = self._having(digest) or (None, 0)
        known = self._known[inode] = _Known(digest, size, index)
        return known

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
