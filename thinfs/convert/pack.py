"""From file bodies to objects: small ones together in bundles, large ones in chunks.

A body that the repository holds already is not stored again: small ones are looked up by their
digest before they are packed, large ones chunk by chunk, because a chunk's name says whether it
is there. Chunks that are all zero are not stored at all: an extent that is missing reads as zero.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.model import Content, Extent, ObjectRef
from thinfs.convert.gather import Gathering
from thinfs.errors import FormatError
from thinfs.store.layout import MAX_OBJECT_BYTES, SMALL_CONTENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from thinfs.convert.objects import ObjectWriter, StoredObject
    from thinfs.store.index import ContentIndex
    from thinfs.store.local import LocalRepository

SIFT_AT_MOST = 1024
"""Most contents that the index is asked about at once."""

_ZEROS = bytes(MAX_OBJECT_BYTES)


@dataclass(frozen=True, slots=True)
class Packed:
    """Contents whose place is settled, and the objects they lie in.

    Attributes:
        objects: without duplicates.
        contents: their extents name these objects.
        indexed: whether the index knows them already.
    """

    objects: tuple[ObjectRef, ...]
    contents: tuple[Content, ...]
    indexed: bool = False


@dataclass(slots=True)
class PackCounts:
    """What packing did so far.

    Attributes:
        body_bytes: file bodies read.
        new_objects: objects that were not there before.
        new_bytes: what they take, as stored.
        deduplicated_bytes: body bytes that were there already.
    """

    body_bytes: int = 0
    new_objects: int = 0
    new_bytes: int = 0
    deduplicated_bytes: int = 0

    @staticmethod
    def total(counts: Iterable[PackCounts]) -> PackCounts:
        """The sums over several layers."""
        rows = [dataclasses.astuple(each) for each in counts]
        return PackCounts(*(sum(column) for column in zip(*rows, strict=True)))


@dataclass(frozen=True, slots=True)
class _Bundle:
    """A full bundle on its way: where in it each content begins."""

    stored: Future[StoredObject]
    places: tuple[tuple[bytes, int, int], ...]  # digest, size, offset in the object

    def ready(self) -> bool:
        return self.stored.done()

    def settle(self) -> tuple[tuple[StoredObject, ...], tuple[Content, ...]]:
        stored = self.stored.result()
        contents = tuple(
            Content(digest, size, (Extent(0, size, stored.ref.digest, offset),))
            for digest, size, offset in self.places
        )
        return (stored,), contents


@dataclass(frozen=True, slots=True)
class _Large:
    """A large content on its way: its chunks by their offset in it."""

    digest: bytes
    size: int
    chunks: tuple[tuple[int, Future[StoredObject]], ...]

    def ready(self) -> bool:
        return all(stored.done() for _, stored in self.chunks)

    def settle(self) -> tuple[tuple[StoredObject, ...], tuple[Content, ...]]:
        stored = [(offset, future.result()) for offset, future in self.chunks]
        extents = tuple(Extent(offset, s.ref.size, s.ref.digest, 0) for offset, s in stored)
        return tuple(s for _, s in stored), (Content(self.digest, self.size, extents),)


class Packer:
    """Packs the bodies of one layer: small ones by directory, else in the order they come.

    A body's digest is known at once, its place when its object is written: ``settled`` and
    ``finish`` give the places, which the caller passes on to the catalog and the index. Not for
    several threads.
    """

    def __init__(
        self, repository: LocalRepository, index: ContentIndex, writer: ObjectWriter
    ) -> None:
        self._repository = repository
        self._index = index
        self._writer = writer
        self._gathering = Gathering()
        self._pending: deque[_Bundle | _Large] = deque()
        self._known: deque[Packed] = deque()
        self._open: dict[bytes, bytes] = {}  # the open bundle: body by digest, in order
        self._filled = 0
        self._unsifted: list[bytes] = []  # those of it that the index was not asked about yet
        self._moving: set[bytes] = set()  # contents on their way, which the index cannot know yet
        self._present: set[bytes] = set()  # objects of the index that were seen on disk
        self.counts = PackCounts()

    def add(self, body: Iterable[bytes], size: int, directory: bytes = b"") -> bytes:
        """Take one body; gives its digest.

        Args:
            body: its blocks; all are read.
            size: bytes they add up to, at least 1.
            directory: path of the one that the file is in: its small files lie together.

        Raises:
            FormatError: the body has another size.
        """
        self.counts.body_bytes += size
        if size < SMALL_CONTENT_BYTES:
            return self._add_small(_joined(body, size), directory)
        return self._add_large(body, size)

    def settled(self) -> Iterator[Packed]:
        """What was settled since the last call, without waiting."""
        while self._known:
            yield self._known.popleft()
        while self._pending and self._pending[0].ready():
            yield self._settle(self._pending.popleft())

    def finish(self) -> Iterator[Packed]:
        """Close the open bundle and wait for all that is under way."""
        for digest, small in self._gathering.finish():
            self._bundle(digest, small)
        self._sift()
        self._close_bundle()
        yield from self.settled()
        while self._pending:
            yield self._settle(self._pending.popleft())

    def _add_small(self, body: bytes, directory: bytes) -> bytes:
        digest = hashlib.sha256(body).digest()
        if digest in self._moving:
            self.counts.deduplicated_bytes += len(body)
            return digest
        self._moving.add(digest)
        for ready in self._gathering.add(directory, digest, body):
            self._bundle(*ready)
        return digest

    def _bundle(self, digest: bytes, body: bytes) -> None:
        if self._filled + len(body) > MAX_OBJECT_BYTES:
            self._sift()
            if self._filled + len(body) > MAX_OBJECT_BYTES:
                self._close_bundle()
        self._open[digest] = body
        self._filled += len(body)
        self._unsifted.append(digest)
        if len(self._unsifted) >= SIFT_AT_MOST:
            self._sift()

    def _sift(self) -> None:
        """Take out of the open bundle what the repository has already.

        One question for many contents: asked one by one, the index took a tenth of a conversion.
        """
        for content, objects in self._index.find(self._unsifted):
            if all(map(self._is_here, objects)):
                body = self._open.pop(content.digest)
                self._filled -= len(body)
                self.counts.deduplicated_bytes += len(body)
                self._known.append(Packed(objects, (content,), indexed=True))
        self._unsifted.clear()

    def _add_large(self, body: Iterable[bytes], size: int) -> bytes:
        whole = hashlib.sha256()
        chunks: list[tuple[int, Future[StoredObject]]] = []
        offset = 0
        for chunk in _chunks(body):
            whole.update(chunk)
            if chunk != _ZEROS[: len(chunk)]:
                # a content of one chunk has its object's name: hashed once
                name = whole.digest() if len(chunk) == size else None
                chunks.append((offset, self._writer.store([chunk], name)))
            offset += len(chunk)
        if offset != size:
            raise FormatError(f"a file of {size} bytes has {offset}")
        self._pending.append(_Large(whole.digest(), size, tuple(chunks)))
        return whole.digest()

    def _is_here(self, ref: ObjectRef) -> bool:
        """Whether an object of the index is really on disk."""
        if ref.digest not in self._present:
            if self._repository.stored_object_size(ref.digest) != ref.stored_size:
                return False
            self._present.add(ref.digest)
        return True

    def _close_bundle(self) -> None:
        if not self._open:
            return
        places, offset = [], 0
        for digest, body in self._open.items():
            places.append((digest, len(body), offset))
            offset += len(body)
        alone = places[0][0] if len(places) == 1 else None
        stored = self._writer.store(list(self._open.values()), alone)
        self._pending.append(_Bundle(stored, tuple(places)))
        self._open, self._filled = {}, 0

    def _settle(self, item: _Bundle | _Large) -> Packed:
        stored, contents = item.settle()
        for each in stored:
            if each.new:
                self.counts.new_objects += 1
                self.counts.new_bytes += each.ref.stored_size
            else:
                self.counts.deduplicated_bytes += each.ref.size
        return Packed(tuple(each.ref for each in stored), contents)

    def forget(self, contents: Iterable[Content]) -> None:
        """Say that the index can be asked about these contents now."""
        self._moving.difference_update(content.digest for content in contents)


def _joined(body: Iterable[bytes], size: int) -> bytes:
    parts = list(body)
    joined = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(joined) != size:
        raise FormatError(f"a file of {size} bytes has {len(joined)}")
    return joined


def _chunks(body: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of exactly MAX_OBJECT_BYTES, the last one shorter."""
    held = b""
    for block in body:
        held = held + block if held else block
        while len(held) >= MAX_OBJECT_BYTES:
            yield held[:MAX_OBJECT_BYTES]
            held = held[MAX_OBJECT_BYTES:]
    if held:
        yield held
