"""Writes what has arrived to the cache, after its readers have been answered."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from catalog.errors import CatalogError
from thinfs.errors import FormatError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from catalog.model import ContentRef
    from thinfs.cache.directory import NodeCache
    from thinfs.cache.disk import Disk
    from thinfs.cache.root import RootContents
    from thinfs.cache.shared import SharedContent

log = logging.getLogger(__name__)

SLOW_DOWN_AT: Final = 64
"""Objects that wait to be written before fetches wait for the disk."""

MAX_WAITING: Final = 128
"""Objects that wait to be written at most; what arrives then is not kept."""

WAIT_FOR_DISK_S: Final = 1.0
"""Longest time a fetch waits for a disk on which nothing moves; then nobody waits for it."""

MAX_OTHER_ROOTS: Final = 32
"""Roots that are asked for further contents of an object; each takes about 0.1 ms."""

MAX_CONTENTS_IN_OBJECT: Final = 1 << 16
"""Contents of one object that are written; more than any converter puts into 1 MiB."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verified object that a root's readers asked for."""

    root: RootContents
    digest: bytes
    data: bytes


class Writer:
    """One background task with a bounded queue.

    Args:
        cache: where to.
        disk: its thread.
        acquire: gives the shared state of a large content, by its catalog and number.
        release: takes it back.
        roots: all roots for which contents are kept.

    Attributes:
        skipped: objects that were not written because too many waited.
    """

    def __init__(
        self,
        cache: NodeCache,
        disk: Disk,
        acquire: Callable[[RootContents, int], SharedContent],
        release: Callable[[SharedContent], None],
        roots: Callable[[], Iterable[RootContents]] = tuple,
    ) -> None:
        self.skipped = 0
        self._cache = cache
        self._disk = disk
        self._acquire = acquire
        self._release = release
        self._roots = roots
        self._send, self._receive = trio.open_memory_channel[Arrival](MAX_WAITING)
        self._unwritten: dict[bytes, bytes] = {}
        self._idle = trio.Event()
        self._idle.set()
        self._moved = trio.Event()
        self._stuck = False
        self._held: tuple[RootContents, int, SharedContent] | None = None

    async def room(self) -> None:
        """Wait while the disk is far behind, unless nothing moves there at all."""
        with trio.move_on_after(WAIT_FOR_DISK_S) as patience:
            while len(self._unwritten) >= SLOW_DOWN_AT and not self._stuck:
                patience.deadline = trio.current_time() + WAIT_FOR_DISK_S
                await self._moved.wait()
        if patience.cancelled_caught:
            self._stuck = True

    def offer(self, arrival: Arrival) -> None:
        """Queue an object to be written; never waits."""
        if arrival.digest in self._unwritten or not self._cache.writable or self._disk.paused:
            return
        try:
            self._send.send_nowait(arrival)
        except trio.WouldBlock:
            self.skipped += 1
            return
        if not self._unwritten:
            self._idle = trio.Event()
        self._unwritten[arrival.digest] = arrival.data

    def waiting(self, digest: bytes) -> bytes | None:
        """An object that is not written yet: nobody need fetch it again."""
        return self._unwritten.get(digest)

    async def idle(self) -> None:
        """Wait until everything offered has been written, or failed to be."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write what is offered, for ever."""
        async for arrival in self._receive:
            try:
                await self._write(arrival)
            except (StoreError, FormatError, CatalogError) as error:
                log.debug("object %s is not kept: %s", arrival.digest.hex(), error)
            except Exception:  # what cannot be kept must not end what is served
                log.exception("object %s is not kept", arrival.digest.hex())
            finally:
                del self._unwritten[arrival.digest]
                self._tell()

    def _tell(self) -> None:
        self._stuck = False
        self._moved.set()
        self._moved = trio.Event()
        if not self._unwritten:
            self._let_go()
            self._idle.set()

    async def _write(self, arrival: Arrival) -> None:
        found = self._contents_in(arrival)
        whole = [ref for root, ref in found if _is_whole(root, ref)]
        if whole:
            written = await self._disk.run(partial(self._keep_whole, arrival, whole))
            if written:
                self._disk.wrote()
        for root, ref in found:
            if not _is_whole(root, ref):
                await self._keep_part(root, arrival.data, ref)

    def _contents_in(self, arrival: Arrival) -> list[tuple[RootContents, ContentRef]]:
        """What lies in an object, by the catalog that it was asked for by, and by others.

        Native roots find in the cache whatever they have in common with those.
        """
        found = [(arrival.root, ref) for ref in _refs(arrival.root, arrival.digest)]
        known = {ref.digest for _, ref in found}
        for root in islice(self._roots(), MAX_OTHER_ROOTS):
            if root == arrival.root:
                continue
            try:
                more = [ref for ref in _refs(root, arrival.digest) if ref.digest not in known]
            except CatalogError as error:
                log.debug("a catalog is not asked what is in %s: %s", arrival.digest.hex(), error)
                continue
            known.update(ref.digest for ref in more)
            found += ((root, ref) for ref in more)
        return found

    def _keep_whole(self, arrival: Arrival, refs: Sequence[ContentRef]) -> int:
        """In the disk's thread: check every content against its own digest, and keep it.

        Returns:
            Bytes written.
        """
        bodies: dict[bytes, bytes | memoryview] = {}
        for ref in refs:
            body = _run_of(arrival.data, ref)
            if hashlib.sha256(body).digest() == ref.digest:
                bodies[ref.digest] = body
            else:
                log.warning("the catalog is wrong about content %s: not kept", ref.digest.hex())
        return self._cache.add_contents(bodies)

    async def _keep_part(self, root: RootContents, data: bytes, ref: ContentRef) -> None:
        shared = self._hold(root, ref.content_id)
        if shared.may_be_partial and not shared.doubtful:
            await shared.keep(ref.extent, _run_of(data, ref))

    def _hold(self, root: RootContents, content_id: int) -> SharedContent:
        """The shared state of a content, kept until another one comes or all is written.

        The objects of a large content arrive one after the other, and to look up its thousands
        of extents for each of them would take longer than writing.
        """
        if self._held is not None and self._held[:2] == (root, content_id):
            return self._held[2]
        self._let_go()
        shared = self._acquire(root, content_id)
        self._held = (root, content_id, shared)
        return shared

    def _let_go(self) -> None:
        if self._held is not None:
            self._release(self._held[2])
            self._held = None


def _refs(root: RootContents, digest: bytes) -> list[ContentRef]:
    return list(islice(root.reader.contents_in(digest), MAX_CONTENTS_IN_OBJECT))


def _is_whole(root: RootContents, ref: ContentRef) -> bool:
    return ref.extent.length == ref.size and ref.digest != root.metadata


def _run_of(data: bytes, ref: ContentRef) -> memoryview:
    start = ref.extent.object_offset
    return memoryview(data)[start : start + ref.extent.length]
