"""What all readers of one content have in common while any of them has it open."""

from __future__ import annotations

import os
from bisect import bisect_left
from typing import TYPE_CHECKING

import trio

from thinfs.cache.partial import PartialFile

if TYPE_CHECKING:
    from catalog.model import Content, Extent
    from thinfs.cache.directory import NodeCache
    from thinfs.cache.disk import Disk
    from thinfs.cache.plan import Piece


class SharedContent:
    """One content's local bytes: the whole file when it is here, else what is of it.

    Only the event loop calls this; what waits is said so.

    Attributes:
        content: what it is and where its bytes are.
        users: bodies and writers that have it open; the store closes it after the last.
    """

    def __init__(self, content: Content, cache: NodeCache, disk: Disk) -> None:
        self.content = content
        self.users = 0
        self.doubtful = False
        self._cache = cache
        self._disk = disk
        self._whole = -1
        self._partial: PartialFile | None = None
        self._opening = trio.Lock()
        self._looked = not self.may_be_partial

    @property
    def in_one_object(self) -> bool:
        """Whether one extent is all of it, so that it is written out at once and whole."""
        extents = self.content.extents
        return len(extents) == 1 and extents[0].length == self.content.size

    @property
    def may_be_partial(self) -> bool:
        """Whether a partial file is worth keeping."""
        return not self.in_one_object and self.content.size <= self._cache.largest_bytes

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
            found = self._cache.open_content(self.content.digest, self.content.size)
            if found is None:
                return None
            self._whole = found
        self._cache.touch(self.content.digest)
        try:
            data = os.pread(self._whole, length, offset)
        except OSError:
            data = b""
        return data if len(data) == length else None

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

    async def look(self) -> None:
        """Find out, once, which extents are here already. Waits for the disk."""
        if self._looked:
            return
        async with self._opening:
            if not self._looked:
                await self._open_partial()
                self._looked = True

    async def keep(self, extent: Extent, data: bytes | memoryview) -> None:
        """Write an extent to the partial file; names the file when it was the last one.

        Only the store's writer calls this, one call at a time for each content.

        Raises:
            StoreError: the disk fails.
        """
        await self.look()
        index = bisect_left(self.content.extents, extent.offset, key=lambda e: e.offset)
        for _ in range(2):  # a second time when the file was evicted
            partial = self._partial or await self._open_partial()
            if partial is None or index in partial.present:
                return
            if await self._disk.run(lambda: partial.write(index, data)):  # noqa: B023 - awaited here
                partial.present.add(index)
                break
            self._forget(partial)
        if self._partial is not None and self._partial.complete:
            await self._finish(self._partial)

    async def _open_partial(self) -> PartialFile | None:
        partial = PartialFile(self._cache, self.content)
        present = await self._disk.attempt(partial.open)
        if present is None:
            partial.close()
            return None
        partial.present = present
        self._partial = partial
        return partial

    def _forget(self, partial: PartialFile) -> None:
        partial.present = set()
        partial.close()
        self._partial = None

    async def _finish(self, partial: PartialFile) -> None:
        right = await trio.to_thread.run_sync(partial.is_right)
        if right:
            await self._disk.run(partial.publish)
            return
        self.doubtful = True
        await self._disk.run(partial.discard)
        self._forget(partial)
