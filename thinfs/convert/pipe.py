"""A layer's bytes on their way: blob → digest → decompress → diffID → tar reader.

One thread reads, hashes and inflates; the other parses. Between them at most
``QUEUE_BYTES`` wait, so a layer of any size takes the same memory.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import zstandard
from isal import igzip_lib, isal_zlib

from thinfs.errors import FormatError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

QUEUE_BYTES = 16 << 20
BLOCK_BYTES = 1 << 20

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"  # bytes 1 to 3; byte 0 is 0x50 to 0x5f (RFC 8878, 3.1.2)
_GZIP_WINDOW = 31  # zlib's wbits: 15 bits of window and a gzip header


class Decompressor(Protocol):
    """What turns compressed blocks into tar bytes."""

    def stream(self, blocks: Iterator[bytes], /) -> Iterator[bytes]:
        """Give the output, about 1 MiB at a time; raises FormatError when the data is damaged."""
        ...


class _Plain:
    """A layer that is not compressed."""

    def stream(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        return blocks


class _Gzip:
    """One or more gzip members (RFC 1952)."""

    def __init__(self) -> None:
        self._inflater = isal_zlib.decompressobj(_GZIP_WINDOW)
        self._fresh = True

    def stream(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            yield from self._inflated(block)
        yield from self._finish()

    def _inflated(self, block: bytes) -> Iterator[bytes]:
        try:
            while block:
                if self._inflater.eof:
                    if not block.lstrip(b"\0"):  # some writers pad the last member
                        return
                    self._inflater = isal_zlib.decompressobj(_GZIP_WINDOW)
                    self._fresh = True
                out = self._inflater.decompress(block, BLOCK_BYTES)
                self._fresh = False
                block = self._inflater.unconsumed_tail or self._inflater.unused_data
                if out:
                    yield out
        except igzip_lib.IsalError as error:  # type: ignore[misc] # the stubs call it an instance
            raise FormatError(f"damaged gzip data: {error}") from error

    def _finish(self) -> Iterator[bytes]:
        if not self._inflater.eof and not self._fresh:
            yield self._inflater.flush()
            if not self._inflater.eof:
                raise FormatError("the gzip data ends in the middle")


class _Zstd:
    """One or more zstd frames, skippable ones between them (RFC 8878)."""

    def stream(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        # zstd is asked for so much output, rather than given so much input: four bytes of a
        # frame can stand for 128 KiB.
        inflater = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        source: IO[bytes] = _Blocks(blocks)  # type: ignore[assignment] # all that it uses of a file
        reader = inflater.stream_reader(source, read_across_frames=True)
        try:
            while out := reader.read(BLOCK_BYTES):
                yield out
        except zstandard.ZstdError as error:
            raise FormatError(f"damaged zstd data: {error}") from error
        # a frame cut short shows as a tar cut short or as another diffID


class _Blocks:
    """Blocks as the part of a file that zstd reads."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """At most ``size`` bytes; none at the end."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return memoryview(b"")
            self._rest = memoryview(block)
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def decompressor(first: bytes) -> Decompressor:
    """Choose by what the bytes are: media types are often wrong.

    Args:
        first: the first bytes of the layer, at least 4 unless it is shorter.
    """
    if first.startswith(GZIP_MAGIC):
        return _Gzip()
    if first.startswith(ZSTD_MAGIC) or first[1:4] == ZSTD_SKIPPABLE_MAGIC:
        return _Zstd()
    return _Plain()


class LayerPipe:
    """A forward-only binary file over a layer's tar stream, filled by a thread of its own.

    Use as a context manager; leaving it stops the thread. ``tarfile`` in mode ``r:`` reads it:
    ``seek`` goes forward only.

    Args:
        blocks: the compressed blob, in order, in blocks of any size.
        what: names the layer in errors.
    """

    def __init__(self, blocks: Iterable[bytes], what: str) -> None:
        self._what = what
        self._blocks = blocks
        self._queue: deque[bytes | memoryview] = deque()
        self._queued = 0
        self._done = False
        self._stopped = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._fill, name="layer-pipe", daemon=True)
        self._current = memoryview(b"")
        self._position = 0
        self._last = b""
        self._digest = hashlib.sha256()
        self._diff_id = hashlib.sha256()
        self.compressed_bytes = 0
        """Blob bytes read so far."""

    def __enter__(self) -> LayerPipe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._queue.clear()
            self._changed.notify_all()
        self._thread.join()

    def tell(self) -> int:
        """Bytes of the tar stream passed so far."""
        return self._position

    def seek(self, position: int) -> int:
        """Go forward; ends at the end of the stream if that comes first.

        One byte back is possible after a read: ``tarfile`` looks at the last byte of a member
        to see that it is there.
        """
        if position == self._position - 1 and self._last:
            self._step_back()
        if position < self._position:
            raise FormatError(f"{self._what}: the tar stream points backwards")
        while self._position < position and self._more():
            step = min(position - self._position, len(self._current))
            self._current = self._current[step:]
            self._position += step
        return self._position

    def read(self, size: int) -> bytes:
        """Give ``size`` bytes, fewer only at the end of the stream."""
        if len(self._current) >= size:
            part = bytes(self._current[:size])
            self._current = self._current[size:]
            self._position += size
            self._last = part[-1:]
            return part
        parts: list[memoryview] = []
        missing = size
        while missing and self._more():
            step = min(missing, len(self._current))
            parts.append(self._current[:step])
            self._current = self._current[step:]
            missing -= step
        self._position += size - missing
        joined = b"".join(parts)
        self._last = joined[-1:]
        return joined

    def verify(self, digest: str, diff_id: str, size: int) -> int:
        """Read to the end and compare the whole layer with what the image says of it.

        Returns:
            Bytes of the tar stream.

        Raises:
            IntegrityError: the blob's size or digest, or the tar's diffID, is another one.
        """
        while self._more():
            self._position += len(self._current)
            self._current = memoryview(b"")
        if self.compressed_bytes != size:
            raise IntegrityError(
                f"{self._what}: {self.compressed_bytes} bytes arrived, the image says {size}"
            )
        for name, is_one, ought in (
            ("digest", self._digest, digest),
            ("diffID", self._diff_id, diff_id),
        ):
            if f"sha256:{is_one.hexdigest()}" != ought:
                raise IntegrityError(
                    f"{self._what}: its {name} is sha256:{is_one.hexdigest()}, "
                    f"the image says {ought}"
                )
        return self._position

    def _step_back(self) -> None:
        with self._changed:
            self._queue.appendleft(self._current)
            self._queued += len(self._current)
        self._current = memoryview(self._last)
        self._position -= 1
        self._last = b""

    def _more(self) -> bool:
        """Whether there are bytes in ``_current``, waiting for some if need be."""
        if len(self._current):
            return True
        with self._changed:
            while not self._queue:
                if self._error is not None:
                    raise self._error
                if self._done:
                    return False
                self._changed.wait()
            block = self._queue.popleft()
            self._queued -= len(block)
            self._changed.notify_all()
        self._current = memoryview(block)
        return True

    def _fill(self) -> None:
        try:
            self._pump()
        except BaseException as error:  # raised again where the reader waits
            with self._changed:
                self._error = error
                self._changed.notify_all()
        else:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _pump(self) -> None:
        blocks = _with_magic(self._blocks)
        first = next(blocks, None)
        if first is not None:
            self._pass_on(decompressor(first).stream(self._counted(chain((first,), blocks))))

    def _counted(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The same blocks, of which digest and size are kept."""
        for block in blocks:
            self.compressed_bytes += len(block)
            self._digest.update(block)
            yield block

    def _pass_on(self, blocks: Iterator[bytes]) -> None:
        """Hash and queue tar bytes, until nobody wants more."""
        for block in blocks:
            self._diff_id.update(block)
            if not self._offer(block):
                return

    def _offer(self, block: bytes) -> bool:
        with self._changed:
            while self._queued >= QUEUE_BYTES and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return False
            self._queue.append(block)
            self._queued += len(block)
            self._changed.notify_all()
        return True


def _with_magic(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, the first block long enough to see what they are."""
    head = b""
    iterator = iter(blocks)
    for block in iterator:
        head += block
        if len(head) >= len(ZSTD_MAGIC):
            yield head
            yield from iterator
            return
    if head:
        yield head
