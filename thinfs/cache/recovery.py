"""Bringing a node cache's book-keeping and its files together when it is opened.

Runs under the cache's lock, so that one process at a time is in here; others may be using the
cache. What is dropped is fetched again when somebody needs it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from typing import TYPE_CHECKING

from thinfs.cache.places import Kind, counted
from thinfs.cache.state import delete_file, has_file, insert_file
from thinfs.store.layout import is_hex_digest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from thinfs.cache.places import Places
    from thinfs.cache.state import State

log = logging.getLogger(__name__)


def recover(places: Places, state: State, boot_id: str, *, new: bool, now_ns: int) -> None:
    """Clear what dead processes and a stopped machine left.

    Args:
        places: the directory.
        state: its book-keeping.
        boot_id: of the running kernel.
        new: the book-keeping is empty: files that are here are hashed and taken over.
        now_ns: last use of files that are taken over.

    Raises:
        StoreError: the disk fails.
    """
    bury_dead(places, state)
    if new:
        _adopt(places, state, now_ns)
        return
    with state.transaction() as db:
        (written_in,) = db.execute("SELECT boot_id FROM about").fetchone()
        if written_in != boot_id:
            _after_boot(places, db, boot_id)


def bury_dead(places: Places, state: State) -> None:
    """Remove drafts, announcements and pins of processes that have died."""
    living = {folder.name for folder in places.temporary.iterdir() if not _is_dead(folder)}
    with state.transaction() as db:
        owners = {owner for (owner,) in db.execute("SELECT owner FROM pending")}
        owners |= {owner for (owner,) in db.execute("SELECT owner FROM pins")}
        for owner in owners - living:
            _unpublish(places, db, owner)
            db.execute("DELETE FROM pending WHERE owner = ?", (owner,))
            db.execute("DELETE FROM pins WHERE owner = ?", (owner,))
    for folder in places.temporary.iterdir():
        if folder.name not in living:
            shutil.rmtree(folder, ignore_errors=True)


def _is_dead(folder: Path) -> bool:
    """Whether nobody holds the lock of an owner's folder."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # its process has closed the cache just now
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def _unpublish(places: Places, db: sqlite3.Connection, owner: str) -> None:
    """Remove files that got their name in a transaction that was never committed."""
    rows = db.execute("SELECT kind, digest FROM pending WHERE owner = ?", (owner,)).fetchall()
    for kind, digest in rows:
        if not has_file(db, Kind(kind), digest):
            places.file(Kind(kind), digest).unlink(missing_ok=True)


def _after_boot(places: Places, db: sqlite3.Connection, boot_id: str) -> None:
    """Drop what had not reached the disk for certain when the machine stopped."""
    db.execute("DELETE FROM files WHERE kind = 'partial' OR id > (SELECT durable_id FROM about)")
    known = {(kind, digest) for kind, digest in db.execute("SELECT kind, digest FROM files")}
    present = set()
    dropped = 0
    for kind, path in _files(places):
        key = (str(kind), bytes.fromhex(path.name) if is_hex_digest(path.name) else b"")
        if key in known:
            present.add(key)
        else:
            path.unlink(missing_ok=True)
            dropped += 1
    for kind_name, digest in known - present:
        delete_file(db, kind_name, digest)
    db.execute("UPDATE about SET boot_id = ?", (boot_id,))
    if dropped:
        log.info("%s: dropped %d files that may not have reached the disk", places.root, dropped)


def _adopt(places: Places, state: State, now_ns: int) -> None:
    """Account for every file whose bytes are what its name says; remove all others."""
    for kind, path in list(_files(places)):
        size = _right_size(path) if kind is not Kind.PARTIAL else None
        if size is None:
            path.unlink(missing_ok=True)
            continue
        with state.transaction() as db:
            digest = bytes.fromhex(path.name)
            insert_file(db, kind, digest, size=counted(size), now_ns=now_ns)


def _right_size(path: Path) -> int | None:
    """Size of a file that is what its name says, else ``None``."""
    if not is_hex_digest(path.name) or not path.is_file() or path.is_symlink():
        return None
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != path.name:
            return None
        status = os.fstat(file.fileno())
        return min(status.st_size, status.st_blocks * 512)  # a sparse file takes less


def _files(places: Places) -> Iterator[tuple[Kind, Path]]:
    for fan in places.contents.iterdir():
        if fan.is_dir() and not fan.is_symlink():
            yield from ((Kind.CONTENT, path) for path in fan.iterdir())
    for kind in (Kind.PARTIAL, Kind.CATALOG, Kind.METADATA, Kind.BOOT):
        folder = places.file(kind, bytes(32)).parent
        yield from ((kind, path) for path in folder.iterdir())
