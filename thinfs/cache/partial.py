"""Large contents that are partly here: a sparse file, and which of its extents hold bytes.

Synchronous, and called where :class:`thinfs.cache.directory.NodeCache` is called, but for
:meth:`PartialFile.read`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from thinfs.cache.directory import CONTENT_MODE
from thinfs.cache.places import Kind, counted
from thinfs.cache.state import delete_file, has_file, insert_file, store_errors

if TYPE_CHECKING:
    import sqlite3
    from hashlib import _Hash as Hash

    from catalog.model import Content
    from thinfs.cache.directory import NodeCache

_BUFFER_BYTES: Final = 1 << 20
_WRITE: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class PartialFile:
    """One large content on its way to being whole.

    Args:
        cache: where it is.
        content: what it is to become.
        layout: its file's name, from :func:`thinfs.cache.plan.layout_digest`.
        kind: what it is when it is whole: ``CONTENT`` or ``METADATA``.

    Attributes:
        present: extents that are in the file, by position in the content's list. Only the
            event loop adds to it, after the bytes have been written.
    """

    def __init__(
        self, cache: NodeCache, content: Content, layout: bytes, kind: Kind = Kind.CONTENT
    ) -> None:
        self.content = content
        self._kind = kind
        self.present: set[int] = set()
        self._cache = cache
        self._layout = layout
        self._path = cache.places.file(Kind.PARTIAL, self._layout)
        self._handle = -1
        self._inode = 0

    @property
    def complete(self) -> bool:
        """Whether every extent is in the file."""
        return len(self.present) == len(self.content.extents)

    def open(self) -> set[int]:
        """Open the file that is here, or make a new one.

        Returns:
            The extents that it holds: what ``present`` is to become.

        Raises:
            StoreError: the disk fails.
        """
        with self._cache.state.transaction() as db, store_errors(self._path):
            self.close()
            known = has_file(db, Kind.PARTIAL, self._layout)
            if not known:
                self._path.unlink(missing_ok=True)
            self._handle = os.open(self._path, _WRITE, 0o600)
            os.ftruncate(self._handle, self.content.size)
            self._inode = os.fstat(self._handle).st_ino
            if not (known and self._is_ours(db)):
                delete_file(db, Kind.PARTIAL, self._layout)
                now_ns = self._cache.now_ns()
                insert_file(
                    db, Kind.PARTIAL, self._layout, size=0, now_ns=now_ns, inode=self._inode
                )
            rows = db.execute("SELECT extent FROM extents WHERE layout = ?", (self._layout,))
            return {extent for (extent,) in rows}

    def close(self) -> None:
        """Close the file; it stays in the cache."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of extents that are present; fewer when the disk fails."""
        self._cache.notes.used(Kind.PARTIAL, self._layout)
        return os.pread(self._handle, length, offset)

    def write(self, index: int, data: bytes | memoryview) -> bool:
        """Put one extent's bytes into the file and remember that they are there.

        They count against the quota before they are written.

        Returns:
            Whether the file is still the cache's; else it was evicted: open it anew.

        Raises:
            StoreError: the disk fails.
        """
        state = self._cache.state
        with state.transaction() as db:
            if not self._is_ours(db):
                return False
            if self._has(db, index):  # written by another process
                return True
            db.execute(
                "UPDATE files SET last_use_ns = max(last_use_ns, ?) WHERE inode = ? AND digest = ?",
                (self._cache.now_ns(), self._inode, self._layout),
            )
            self._cache.make_room(db, counted(len(data)), keep=self._layout)
            db.execute(
                "UPDATE files SET bytes = bytes + ? WHERE kind = 'partial' AND digest = ?",
                (counted(len(data)), self._layout),
            )
        with store_errors(self._path):
            _write_all(self._handle, data, self.content.extents[index].offset)
        with state.transaction() as db:
            if not self._is_ours(db):
                return False
            db.execute("INSERT OR IGNORE INTO extents VALUES (?, ?)", (self._layout, index))
        return True

    def hash_run(self, state: Hash, offset: int, length: int) -> int:
        """Add bytes of the file to a digest; any thread may do it, one at a time.

        Returns:
            Bytes added; fewer than ``length`` only at the end of the file.

        Raises:
            StoreError: the disk fails.
        """
        with store_errors(self._path):
            done = 0
            while part := os.pread(self._handle, min(length - done, _BUFFER_BYTES), offset + done):
                state.update(part)
                done += len(part)
            return done

    def discard(self) -> None:
        """Remove the file from the cache."""
        with self._cache.state.transaction() as db:
            if self._is_ours(db):
                self._cache.remove(db, Kind.PARTIAL, self._layout)

    def publish(self) -> None:
        """Give a complete file whose digest is right its name among the whole ones.

        Raises:
            StoreError: the disk fails.
        """
        key = (self._kind, self.content.digest)
        with self._cache.state.transaction() as db:
            self._cache.announce(db, {key: 0})  # clears up should this process die in between
        with self._cache.state.transaction() as db:
            self._cache.withdraw(db, [key])
            if self._is_ours(db):
                self._become_content(db)

    def _become_content(self, db: sqlite3.Connection) -> None:
        digest = self.content.digest
        (size,) = db.execute(
            "SELECT bytes FROM files WHERE kind = 'partial' AND digest = ?", (self._layout,)
        ).fetchone()
        os.fchmod(self._handle, CONTENT_MODE)
        self._path.rename(self._cache.places.file(self._kind, digest))
        delete_file(db, Kind.PARTIAL, self._layout)
        delete_file(db, self._kind, digest)  # another layout's copy, which this one replaced
        insert_file(db, self._kind, digest, size=size, now_ns=self._cache.now_ns())

    def _has(self, db: sqlite3.Connection, index: int) -> bool:
        row = db.execute(
            "SELECT 1 FROM extents WHERE layout = ? AND extent = ?", (self._layout, index)
        )
        return row.fetchone() is not None

    def _is_ours(self, db: sqlite3.Connection) -> bool:
        """Whether the open file is the one in the book-keeping.

        An inode number is not used again while a descriptor of its file is open.
        """
        row = db.execute(
            "SELECT inode FROM files WHERE kind = 'partial' AND digest = ?", (self._layout,)
        ).fetchone()
        return row is not None and bool(row[0] == self._inode)


def _write_all(handle: int, data: bytes | memoryview, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(handle, left, offset)
        left, offset = left[written:], offset + written
