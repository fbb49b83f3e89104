"""The node cache's directory: what is kept, what it counts, what goes when room is needed.

Synchronous. Everything but :meth:`NodeCache.open_content` and ``notes`` may wait
for the disk or for another process, and is called by one thread at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import time
from typing import TYPE_CHECKING, Final

from thinfs.atomic import sync_file_system
from thinfs.cache.attached import AttachedRoots
from thinfs.cache.notes import Notes
from thinfs.cache.places import Kind, Places, counted, to_free
from thinfs.cache.recovery import recover
from thinfs.cache.state import (
    current_boot_id,
    delete_file,
    files_among,
    insert_files,
    open_state,
    store_errors,
    touch,
    used_bytes,
    victims,
)
from thinfs.errors import StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from thinfs.cache.notes import Taken
    from thinfs.cache.state import State

log = logging.getLogger(__name__)

CONTENT_MODE: Final = 0o444
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class NodeCache:
    """One process' use of a node cache.

    Args:
        path: the cache's directory.
        max_bytes: the quota, for all processes together; each is given the same one.
        low_water: part of the quota at which eviction stops.
        now_ns: the wall clock; the order of eviction outlives this process.

    Attributes:
        notes: what the event loop has noted and :meth:`flush` writes down.
        owner: names this process' use of the cache in the book-keeping.
        evictions: files removed by this process to make room.
        last_usage: what :meth:`usage` answered last.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        low_water: float,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.places = Places(path)
        self.max_bytes = max_bytes
        self.low_water = low_water
        self.now_ns = now_ns
        self.evictions = 0
        self.last_usage = (0, 0)
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._state: State | None = None
        self._owner_lock = -1
        self.notes = Notes(now_ns)

    @property
    def largest_bytes(self) -> int:
        """Largest content that is worth a place: a larger one would empty the cache."""
        return int(self.max_bytes * self.low_water)

    def open(self) -> None:
        """Make the directory ready and clear what dead processes left.

        Raises:
            StoreError: it cannot be written. Whole contents can still be read.
        """
        boot_id = current_boot_id()
        with store_errors(self.places.root), self._alone():
            for folder in self.places.folders():
                folder.mkdir(mode=0o755, exist_ok=True)
            state, new = open_state(self.places.state, boot_id)
            try:
                recover(self.places, state, boot_id, new=new, now_ns=self.now_ns())
                self._owner_lock = self._claim_owner()
            except BaseException:
                state.close()
                raise
            self._state = state

    def close(self) -> None:
        """Write last uses down and give up what only a living process holds."""
        state = self._state
        if state is None:
            return
        try:
            self.flush(self.notes.take())
            with state.transaction() as db:
                db.execute("DELETE FROM pins WHERE owner = ?", (self.owner,))
                db.execute("DELETE FROM pending WHERE owner = ?", (self.owner,))
        except StoreError as error:
            log.warning("the cache's book-keeping could not be closed in order: %s", error)
        finally:
            self._state = None
            state.close()
            os.close(self._owner_lock)
            shutil.rmtree(self._own_folder, ignore_errors=True)

    @property
    def writable(self) -> bool:
        """Whether the cache has been opened."""
        return self._state is not None

    @property
    def state(self) -> State:
        """The book-keeping.

        Raises:
            StoreError: the cache could not be opened for writing.
        """
        if self._state is None:
            raise StoreError(f"{self.places.root} is not open for writing")
        return self._state

    # Whole contents

    def open_content(self, digest: bytes, size: int, kind: Kind = Kind.CONTENT) -> int | None:
        """A descriptor of a whole content or metadata image, or ``None``; the caller closes it.

        A look at one name: quick enough for the event loop. Reading through the descriptor
        goes on working when the content is evicted meanwhile.
        """
        try:
            handle = os.open(self.places.name(kind, digest), _READ)
        except OSError:
            return None
        if os.fstat(handle).st_size == size and not self.notes.is_suspect(digest):
            return handle
        os.close(handle)
        self.notes.suspect(digest)
        return None

    def add_contents(self, bodies: Mapping[bytes, bytes | memoryview]) -> int:
        """Keep whole contents; those that are here already cost nothing.

        Room is made and accounted for before the first byte is written, so that all processes
        together stay within the quota.

        Args:
            bodies: by digest; **verified by the caller**.

        Returns:
            Bytes written.

        Raises:
            StoreError: no room on the disk, or it is read-only. Nothing is left behind.
        """
        with store_errors(self.places.contents):
            missing = dict(self._missing(bodies))
            if not missing:
                return 0
            sizes = {(Kind.CONTENT, digest): counted(len(body)) for digest, body in missing.items()}
            with self.pending(sizes) as drafts:
                for digest, body in missing.items():
                    write_draft(drafts[Kind.CONTENT, digest], body)
            return sum(map(len, missing.values()))

    def _missing(
        self, bodies: Mapping[bytes, bytes | memoryview]
    ) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """What is not here, as far as it would not empty the cache."""
        room = self.largest_bytes
        for digest, body in bodies.items():
            here = os.path.lexists(self.places.name(Kind.CONTENT, digest))
            if not here and counted(len(body)) <= room:
                room -= counted(len(body))
                yield digest, body

    def flush(self, taken: Taken) -> None:
        """Write last uses down and remove suspects, in one transaction."""
        with self.state.transaction() as db:
            db.executemany(
                "UPDATE files SET last_use_ns = max(last_use_ns, ?) WHERE kind = ? AND digest = ?",
                [(used_ns, kind, digest) for (kind, digest), used_ns in taken.uses.items()],
            )
            for digest in taken.suspects:
                self.remove(db, Kind.CONTENT, digest)
                self.remove(db, Kind.METADATA, digest)

    # Room

    @contextlib.contextmanager
    def pending(
        self, sizes: Mapping[tuple[Kind, bytes], int]
    ) -> Iterator[dict[tuple[Kind, bytes], str]]:
        """Room for new files; when the block ends well they get their names, all at once.

        Args:
            sizes: what each file will count, by kind and digest.

        Yields:
            Where to write each of them.
        """
        with self.state.transaction() as db:
            self.announce(db, sizes)
        folder = self._own_folder
        drafts = {key: f"{folder}/{key[0]}-{key[1].hex()}" for key in sizes}
        try:
            yield drafts
            self._publish(drafts, sizes)
        except BaseException:
            for draft in drafts.values():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(draft)  # noqa: PTH108 - hundreds of them, see Places.name
            with contextlib.suppress(StoreError), self.state.transaction() as db:
                self.withdraw(db, sizes)
            raise

    def make_room(self, db: sqlite3.Connection, needed: int, keep: bytes = b"") -> None:
        """Evict, inside the caller's transaction, until ``needed`` bytes fit.

        The least recently used go first. A content of an attached root counts as used when its
        turn comes, so it goes only when nothing else can.

        A file goes before its row does: what is on the disk is never more than what counts.
        When this process dies in between, the row counts a file that is not there until it
        comes to be the oldest, or the file comes back.

        Args:
            db: a transaction.
            needed: bytes.
            keep: digest of a file that must stay.

        Raises:
            StoreError: everything else is pinned.
        """
        excess = to_free(used_bytes(db), needed, self.max_bytes, self.low_water)
        if excess <= 0:
            return
        with AttachedRoots.of(db, self.places) as attached:
            for kind, digest, size in victims(db, keep):
                if attached.spares(Kind(kind), digest):
                    touch(db, kind, digest, self.now_ns())
                    continue
                self.remove(db, Kind(kind), digest)
                self.evictions += 1
                excess -= size
                if excess <= 0:
                    return
        if used_bytes(db) + needed > self.max_bytes:
            raise StoreError(
                f"{self.places.root}: what is in use leaves no room for {needed} bytes"
            )

    def remove(self, db: sqlite3.Connection, kind: Kind, digest: bytes) -> None:
        """Remove a file and its row."""
        self.places.file(kind, digest).unlink(missing_ok=True)
        delete_file(db, kind, digest)

    def usage(self) -> tuple[int, int]:
        """Bytes that count against the quota, and the number of whole contents."""
        with self.state.transaction() as db:
            used, contents = db.execute("SELECT bytes, contents FROM about").fetchone()
        self.last_usage = (used, contents)
        return self.last_usage

    def settle(self) -> None:
        """Wait until the disk holds what was written, and remember that it does."""
        with self.state.transaction() as db:
            (last,) = db.execute("SELECT coalesce(max(id), 0) FROM files").fetchone()
            (durable,) = db.execute("SELECT durable_id FROM about").fetchone()
        if last <= durable:
            return
        with store_errors(self.places.root):
            sync_file_system(self.places.root)
        with self.state.transaction() as db:
            db.execute("UPDATE about SET durable_id = max(durable_id, ?)", (last,))

    @property
    def scratch(self) -> Path:
        """A folder of this process on the cache's disk; it goes when the process does."""
        return self._own_folder

    # Parts

    @property
    def _own_folder(self) -> Path:
        return self.places.temporary / self.owner

    def announce(self, db: sqlite3.Connection, sizes: Mapping[tuple[Kind, bytes], int]) -> None:
        """Make room for files that this process is about to name, and account for them."""
        self.withdraw(db, sizes)  # what a failure of the disk may have left
        self.make_room(db, sum(sizes.values()))
        db.executemany(
            "INSERT INTO pending (owner, kind, digest, bytes) VALUES (?, ?, ?, ?)",
            [(self.owner, kind, digest, size) for (kind, digest), size in sizes.items()],
        )

    def withdraw(self, db: sqlite3.Connection, keys: Iterable[tuple[Kind, bytes]]) -> None:
        """Take announced files back, or replace them by their rows in ``files``."""
        db.executemany(
            "DELETE FROM pending WHERE owner = ? AND kind = ? AND digest = ?",
            [(self.owner, kind, digest) for kind, digest in keys],
        )

    def _publish(
        self, drafts: Mapping[tuple[Kind, bytes], str], sizes: Mapping[tuple[Kind, bytes], int]
    ) -> None:
        with self.state.transaction() as db:
            self.withdraw(db, sizes)
            theirs = files_among(db, sizes)
            for key, draft in drafts.items():
                if key in theirs:  # another process was quicker
                    os.unlink(draft)  # noqa: PTH108 - hundreds of them, see Places.name
                else:
                    os.rename(draft, self.places.name(*key))  # noqa: PTH104 - as above
            insert_files(
                db, {key: sizes[key] for key in drafts if key not in theirs}, now_ns=self.now_ns()
            )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from opening the cache; those who have it open go on."""
        self.places.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(self.places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _claim_owner(self) -> int:
        self._own_folder.mkdir(mode=0o700)
        handle = os.open(self._own_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle


def write_draft(path: str, body: bytes | memoryview) -> None:
    """Write a file that is going to get its final name, read-only for everybody."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, CONTENT_MODE)
    try:
        left = memoryview(body)
        while left:
            left = left[os.write(handle, left) :]
        os.fchmod(handle, CONTENT_MODE)  # whatever the umask
    finally:
        os.close(handle)
