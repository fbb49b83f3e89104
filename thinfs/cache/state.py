"""``state.sqlite``: opening, recovering and changing the book-keeping of a node cache.

Synchronous. One process uses one :class:`State` from one thread at a time; other processes may
use the same file at the same time.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from thinfs.cache.places import Kind

log = logging.getLogger(__name__)

USER_VERSION: Final = 4
WITHOUT_IMAGES: Final = 3
"""The version that had all but the tables of ``images.sql``; it is brought up to date."""

LOCK_WAIT_S: Final = 30.0
"""Longest wait for another process' transaction; each takes milliseconds."""

_MAX_VALUES: Final = 500
VICTIMS_AT_ONCE: Final = 256
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def current_boot_id() -> str:
    """The kernel's name for the time since it was started."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


class State:
    """A connection to the book-keeping."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = _connect(path)
        self._inode = path.stat().st_ino

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One BEGIN IMMEDIATE transaction; rolled back when the block raises.

        Raises:
            StoreError: the database or the disk fails.
        """
        with store_errors(self._path):
            self._reopen_if_replaced()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()

    def _reopen_if_replaced(self) -> None:
        """Follow another process that has set a damaged database aside."""
        inode = self._path.stat().st_ino
        if inode != self._inode:
            self._connection.close()
            self._connection = _connect(self._path)
            self._inode = inode


def open_state(path: Path, boot_id: str) -> tuple[State, bool]:
    """Open the database, or make a new one; a damaged one is set aside.

    The caller holds the cache's lock.

    Returns:
        The state, and whether it is new, so that the folders must be looked through.

    Raises:
        StoreError: the directory cannot be used.
    """
    try:
        new = _prepare(path, boot_id)
        return State(path), new
    except sqlite3.OperationalError as error:
        # Locked, full, read-only: says nothing about what the file holds.
        raise StoreError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        aside = _set_aside(path)
        log.warning("%s is damaged (%s): set aside as %s and rebuilt", path, error, aside.name)
    with store_errors(path):
        new = _prepare(path, boot_id)
        return State(path), new


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn what the disk and SQLite raise inside the block into :class:`StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror or error}") from error


def used_bytes(db: sqlite3.Connection) -> int:
    """Bytes that count against the quota now."""
    (used,) = db.execute("SELECT bytes FROM about").fetchone()
    return int(used)


def victims(db: sqlite3.Connection, keep: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Files that may be evicted, least recently used first: kind, digest, bytes; but ``keep``.

    The caller deletes or touches what it takes; asking for more goes on with what is left.
    """
    while rows := db.execute(
        "SELECT kind, digest, bytes FROM files WHERE NOT EXISTS (SELECT 1 FROM pins"
        " WHERE pins.kind = files.kind AND pins.digest = files.digest)"
        " AND NOT EXISTS (SELECT 1 FROM image_files JOIN images ON images.id = image_files.image"
        " WHERE images.pinned AND image_files.kind = files.kind"
        " AND image_files.digest = files.digest)"
        " AND digest != ? ORDER BY last_use_ns, id LIMIT ?",
        (keep, VICTIMS_AT_ONCE),
    ).fetchall():
        yield from rows


def touch(db: sqlite3.Connection, kind: str, digest: bytes, now_ns: int) -> None:
    """Make a file the most recently used one, behind all that were touched before."""
    db.execute(
        "UPDATE files SET last_use_ns = max(?, (SELECT max(last_use_ns) + 1 FROM files))"
        " WHERE kind = ? AND digest = ?",
        (now_ns, kind, digest),
    )


def has_file(db: sqlite3.Connection, kind: Kind, digest: bytes) -> bool:
    """Whether the file is accounted for."""
    row = db.execute("SELECT 1 FROM files WHERE kind = ? AND digest = ?", (kind, digest))
    return row.fetchone() is not None


def files_among(
    db: sqlite3.Connection, keys: Iterable[tuple[Kind, bytes]]
) -> set[tuple[Kind, bytes]]:
    """Those of many files that are accounted for."""
    wanted = set(keys)
    found: set[tuple[Kind, bytes]] = set()
    for kind in {kind for kind, _ in wanted}:
        digests = [digest for each, digest in wanted if each is kind]
        for start in range(0, len(digests), _MAX_VALUES):
            some = digests[start : start + _MAX_VALUES]
            marks = ", ".join("?" * len(some))
            rows = db.execute(
                f"SELECT digest FROM files WHERE kind = ? AND digest IN ({marks})",  # noqa: S608 - only marks
                [kind, *some],
            )
            found.update((kind, digest) for (digest,) in rows)
    return found


def insert_files(
    db: sqlite3.Connection, sizes: Mapping[tuple[Kind, bytes], int], *, now_ns: int
) -> None:
    """Account for many files as :func:`insert_file` does for one."""
    db.executemany(
        "INSERT INTO files (kind, digest, bytes, last_use_ns) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        [(kind, digest, size, now_ns) for (kind, digest), size in sizes.items()],
    )


def insert_file(
    db: sqlite3.Connection, kind: Kind, digest: bytes, *, size: int, now_ns: int, inode: int = 0
) -> None:
    """Account for a file that has its final name (or gets it in this transaction)."""
    db.execute(
        "INSERT INTO files (kind, digest, bytes, last_use_ns, inode) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (kind, digest, size, now_ns, inode),
    )


def delete_file(db: sqlite3.Connection, kind: str, digest: bytes) -> None:
    """Forget a file."""
    db.execute("DELETE FROM files WHERE kind = ? AND digest = ?", (kind, digest))


def _connect(path: Path) -> sqlite3.Connection:
    # Threads of one limiter take turns, so no two are ever in here at once.
    connection = sqlite3.connect(
        path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may take the last transactions, never the file; see about.durable_id.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(path: Path, boot_id: str) -> bool:
    connection = _connect(path)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            _create(connection, boot_id)
            return True
        if version == WITHOUT_IMAGES:
            _run_script(connection, "images.sql")
        elif version != USER_VERSION:
            raise sqlite3.DatabaseError(f"version {version}, this thinfs knows {USER_VERSION}")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'about'")
        if tables.fetchone() == (0,) or not connection.execute("SELECT 1 FROM about").fetchone():
            raise sqlite3.DatabaseError("its tables are missing")
        return False
    finally:
        connection.close()


def _create(connection: sqlite3.Connection, boot_id: str) -> None:
    _run_script(connection, "schema.sql", "images.sql", commit=False)
    connection.execute("INSERT INTO about (boot_id) VALUES (?)", (boot_id,))
    connection.execute("COMMIT")


def _run_script(connection: sqlite3.Connection, *names: str, commit: bool = True) -> None:
    """Make tables in one transaction; the version is the present one then."""
    folder = resources.files(__package__)
    tables = "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
    end = "COMMIT;" if commit else ""
    connection.executescript(
        f"BEGIN IMMEDIATE;\n{tables}\nPRAGMA user_version = {USER_VERSION};\n{end}"
    )


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.rename(aside)
    return aside
