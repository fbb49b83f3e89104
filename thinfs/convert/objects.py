"""Objects on their way to disk: named, compressed and written by a few threads.

Hashing, zstd and writing let other threads run, so two cores compress while the layer's own
thread reads on. At most ``MAX_IN_FLIGHT`` objects wait: memory stays bounded.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard

from catalog.model import ObjectRef

if TYPE_CHECKING:
    from pathlib import Path

    from thinfs.store.local import LocalRepository

MAX_IN_FLIGHT = 16
DEFAULT_LEVEL = 3
"""zstd level of objects: a higher one costs a converter more than it saves a reader."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What became of one object.

    Attributes:
        ref: its name and sizes.
        new: False when the repository had it already.
    """

    ref: ObjectRef
    new: bool


class ObjectWriter:
    """Writes objects into one repository from several threads; a context manager.

    Args:
        repository: where they go.
        work: the converter's directory for temporaries.
        threads: how many compress at once.
        level: of zstd, 1 to 19.
    """

    def __init__(
        self, repository: LocalRepository, work: Path, *, threads: int, level: int = DEFAULT_LEVEL
    ) -> None:
        self._repository = repository
        self._work = work
        self._level = level
        self._room = threading.BoundedSemaphore(MAX_IN_FLIGHT)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="objects")
        self._local = threading.local()

    def __enter__(self) -> ObjectWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def store(self, parts: list[bytes], digest: bytes | None = None) -> Future[StoredObject]:
        """Store the bytes of ``parts``, joined, as one object; waits while too many are waiting.

        Args:
            parts: 1 to 1 MiB bytes altogether.
            digest: their SHA-256 where the caller knows it already.
        """
        self._room.acquire()
        future = self._pool.submit(self._store, parts, digest)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def _store(self, parts: list[bytes], digest: bytes | None) -> StoredObject:
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        digest = digest or hashlib.sha256(body).digest()
        stored = self._repository.stored_object_size(digest)
        if stored is not None:
            return StoredObject(ObjectRef(digest, len(body), stored), new=False)
        frame = self._compressor().compress(body)
        stored, new = self._repository.put_object(digest, frame, self._work)
        return StoredObject(ObjectRef(digest, len(body), stored), new)

    def _compressor(self) -> zstandard.ZstdCompressor:
        """One compressor a thread: they keep their tables, and may not be shared."""
        compressor: zstandard.ZstdCompressor | None = getattr(self._local, "compressor", None)
        if compressor is None:
            compressor = zstandard.ZstdCompressor(level=self._level)
            self._local.compressor = compressor
        return compressor
