"""Arrived objects in memory, for the readers that follow. Pure."""

from __future__ import annotations

from collections import OrderedDict


class MemoryObjects:
    """The most recently used objects, up to a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used = 0
        self._objects: OrderedDict[bytes, bytes] = OrderedDict()

    @property
    def used_bytes(self) -> int:
        """Bytes held now."""
        return self._used

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._objects

    def get(self, digest: bytes) -> bytes | None:
        """An object's bytes, when they are here; it is now the most recently used."""
        data = self._objects.get(digest)
        if data is not None:
            self._objects.move_to_end(digest)
        return data

    def put(self, digest: bytes, data: bytes) -> bool:
        """Keep an object; says whether it is new here. One larger than all room is not kept."""
        if digest in self._objects:
            self._objects.move_to_end(digest)
            return False
        if len(data) <= self._max_bytes:
            self._objects[digest] = data
            self._used += len(data)
        while self._used > self._max_bytes:
            _, oldest = self._objects.popitem(last=False)
            self._used -= len(oldest)
        return True
