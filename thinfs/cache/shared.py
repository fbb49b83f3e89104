"""What all readers of one content have in common while any of them has it open."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

import trio

from thinfs.cache.partial import PartialFile
from thinfs.cache.places import Kind, counted

if TYPE_CHECKING:
    from catalog.model import Content, Extent
    from thinfs.cache.directory import NodeCache
    from thinfs.cache.disk import Disk
    from thinfs.cache.plan import Piece


log = logging.getLogger(__name__)

HASH_STEP_BYTES: Final = 32 << 20
"""Bytes that a thread hashes at a time."""


class SharedContent:
    """One content's local bytes: the whole file when it is here, else what is of it.

    Only the event loop calls this; what waits is said so.

    Args:
        content: what it is and where its bytes are.
        layout: names the content and where its bytes are; see ``layout_digest``.
        cache: what is kept.
        disk: its thread.
        kind: what it is when it is whole: ``CONTENT`` or ``METADATA``.

    Attributes:
        content: what it is and where its bytes are.
        layout: names the content and where its bytes are; see ``layout_digest``.
        users: bodies and writers that have it open; the store closes it after the last.
        may_be_partial: whether a partial file is worth keeping.
        doubtful: its extents are known not to make it up, so it is not kept.
    """

    def __init__(
        self,
        content: Content,
        layout: bytes,
        cache: NodeCache,
        disk: Disk,
        kind: Kind = Kind.CONTENT,
    ) -> None:
        self.content = content
        self.layout = layout
        self.users = 0
        self.doubtful = False
        self._kind = kind
        self._cache = cache
        self._disk = disk
        self._whole = -1
        self._partial: PartialFile | None = None
        self._opening = trio.Lock()
        self._finished = False
        self.may_be_partial = not self.in_one_object and _fits(content, cache.largest_bytes)
        self._looked = not self.may_be_partial

    @property
    def in_one_object(self) -> bool:
        """Whether one extent is all of it, so that it is written out at once and whole."""
        extents = self.content.extents
        alone = len(extents) == 1 and extents[0].length == self.content.size
        return alone and self._kind is Kind.CONTENT

    def close(self) -> None:
        """Close the descriptors."""
        if self._whole >= 0:
            os.close(self._whole)
            self._whole = -1
        if self._partial is not None:
            self._partial.close()
            self._partial = None

    def read_whole(self, offset: int, length: int) -> bytes | None:
        """Bytes of the whole content, or ``None`` when it is not here.

        Reads on the event loop: a read from the page cache takes less than a hop to a thread
        (about 5 against 60 µs), and the kernel's read-ahead makes most reads such.
        """
        if self._whole < 0:
            found = self._cache.open_content(self.content.digest, self.content.size, self._kind)
            if found is None:
                return None
            self._whole = found
        self._cache.notes.used(self._kind, self.content.digest)
        try:
            data = os.pread(self._whole, length, offset)
        except OSError:
            data = b""
        if len(data) == length:
            return data
        self._cache.notes.suspect(self.content.digest)
        return None

    def read_part(self, piece: Piece) -> bytes | None:
        """Bytes of one extent from the partial file, or ``None`` when they are not there."""
        if self._partial is None or piece.index not in self._partial.present:
            return None
        try:
            data = self._partial.read(piece.extent.offset + piece.start, piece.length)
        except OSError:
            return None
        return data if len(data) == piece.length else None

    def has(self, index: int) -> bool:
        """Whether an extent is in the partial file."""
        return self._partial is not None and index in self._partial.present

    async def look(self) -> bool:
        """Find out, once, which extents are here already. Waits for the disk.

        Returns:
            Whether all of them turned out to be here, so that :meth:`finish` is left to do.
        """
        if self._looked:
            return False
        async with self._opening:
            if self._looked:
                return False
            partial = await self._open_partial()
            self._looked = True
            return partial is not None and partial.complete

    async def keep(self, extent: Extent, data: bytes | memoryview) -> None:
        """Write an extent to the partial file; names the file when it was the last one.

        Only the store's writer calls this, one call at a time.

        Raises:
            StoreError: the disk fails.
        """
        await self.look()
        index = bisect_left(self.content.extents, extent.offset, key=lambda e: e.offset)
        for _ in range(2):  # a second time when the file was evicted
            partial = self._partial or await self._open_partial()
            if partial is None or index in partial.present:
                return
            if await self._disk.run(functools.partial(partial.write, index, data)):
                self._disk.wrote()
                partial.present.add(index)
                break
            self._forget(partial)
            self._finished = False
        await self.finish()

    async def finish(self) -> None:
        """Make a complete partial file a whole content, if it is what it is said to be.

        Raises:
            StoreError: the disk fails.
        """
        async with self._opening:
            if self._partial is not None and self._partial.complete and not self._finished:
                await self._finish(self._partial)

    async def _finish(self, partial: PartialFile) -> None:
        if await self._digest(partial) == self.content.digest:
            await self._disk.run(partial.publish)
            self._finished = True
            return
        self.doubtful = True
        log.warning(
            "the extents of content %s do not make it up: its catalog is wrong, it is not kept",
            self.content.digest.hex(),
        )
        self._forget(partial)
        await self._disk.run(partial.discard)

    async def _open_partial(self) -> PartialFile | None:
        partial = PartialFile(self._cache, self.content, self.layout, self._kind)
        present = await self._disk.attempt(partial.open)
        if present is None:
            partial.close()
            return None
        partial.present = present
        self._partial = partial
        return partial

    def _forget(self, partial: PartialFile) -> None:
        partial.close()
        self._partial = None

    async def _digest(self, partial: PartialFile) -> bytes:
        state = hashlib.sha256()
        offset = 0
        while offset < self.content.size:  # in steps, so that it can be cancelled
            step = functools.partial(partial.hash_run, state, offset, HASH_STEP_BYTES)
            done = await trio.to_thread.run_sync(step)
            if done == 0:
                break
            offset += done
        return state.digest()


def _fits(content: Content, room: int) -> bool:
    # The size counts as well: all of it is hashed, holes included.
    taken = sum(counted(extent.length) for extent in content.extents)
    return max(content.size, taken) <= room
