"""The snapshotter's metadata in SQLite: keys, parents, labels, recipes and claims.

Methods of :class:`Metastore` may be called from any thread and each is one transaction: it
happened as a whole or not at all, also after ``kill -9`` or a power cut. Nothing here touches a
snapshot's directory. The schema, with the meaning of each column, is ``schema.sql``.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from importlib import resources
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from snapshotter.model import FailedPrecondition, InvalidArgument, Kind, NotFound
from snapshotter.rows import (
    ALL_SNAPSHOTS,
    CHAIN,
    committed,
    find,
    first_row,
    keep_recipe,
    labels_text,
    refuse_taken,
    snapshot_of,
    statements,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from snapshotter.model import Info, Snapshot, Usage

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 60.0
IDS_PER_BLOCK = 32
"""Ids are reserved in blocks, so that not each of them costs a synchronous write."""

_COMMITTED = "SELECT 1 FROM snapshot WHERE id = ? AND kind = 3"


class Metastore:
    """All that the snapshotter remembers, in one SQLite file.

    Args:
        path: the database; made when it is not there. Its directory exists.

    Raises:
        InvalidArgument: the file has the schema of another version.
        sqlite3.Error: the file cannot be opened or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write_lock = threading.Lock()
        self._id_lock = threading.Lock()
        self._ids: Iterator[int] = iter(())
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._writer = self._connect()
        try:
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._migrate()
            self.instance = self._instance()
        except BaseException:
            self._writer.close()
            raise

    def close(self) -> None:
        """Close the file; the store cannot be used any more. May be called twice."""
        with self._write_lock:
            self._writer.close()
        while True:
            try:
                self._readers.get_nowait().close()
            except Empty:
                return

    def new_id(self) -> int:
        """Give an id that was never given before and never will be again."""
        with self._id_lock:
            taken = next(self._ids, None)
            if taken is None:
                self._ids = iter(self._reserve_ids())
                taken = next(self._ids)
            return taken

    def get(self, key: str) -> Snapshot:
        """Find one snapshot.

        Raises:
            NotFound: there is none of that key or name.
        """
        with self._reading() as connection:
            return find(connection, key)

    def chain(self, key: str) -> list[Snapshot]:
        """Give a snapshot and all below it, itself first and the base last, as of one moment.

        Raises:
            NotFound: there is none of that key or name.
        """
        with self._reading() as connection:
            found = [snapshot_of(row) for row in connection.execute(CHAIN, (key,))]
        if not found:
            raise NotFound(f"snapshot {key}: does not exist")
        return found

    def all(self) -> list[Info]:
        """Give all snapshots as of one moment, in the order of their keys."""
        with self._reading() as connection:
            return [snapshot_of(row).info for row in connection.execute(ALL_SNAPSHOTS)]

    def parents(self, key: str, parent: str) -> list[Snapshot]:
        """Give what a new snapshot would stand upon, the nearest first; nothing for no parent.

        Raises:
            NotFound: there is no such parent.
            InvalidArgument: the parent is not committed.
            AlreadyExists: the key is in use.
        """
        with self._reading() as connection:
            if parent:
                committed(connection, parent)
            refuse_taken(connection, key)
        return self.chain(parent) if parent else []

    def has(self, snapshot_id: int) -> bool:
        """Tell whether there is a snapshot of that id."""
        return self._exists("SELECT 1 FROM snapshot WHERE id = ?", snapshot_id)

    def is_mountable(self, snapshot_id: int) -> bool:
        """Tell whether there is an active or view snapshot of that id."""
        return self._exists("SELECT 1 FROM snapshot WHERE id = ? AND kind != 3", snapshot_id)

    def create(
        self,
        snapshot_id: int,
        kind: Kind,
        key: str,
        parent: int | None,
        *,
        labels: Mapping[str, str],
        now: int,
    ) -> None:
        """Add an active or view snapshot.

        Args:
            snapshot_id: from :meth:`new_id`.
            kind: active or view.
            key: what it is called.
            parent: id of a committed snapshot, or None.
            labels: those with an empty value are left out.
            now: nanoseconds since 1970.

        Raises:
            NotFound: the parent was removed in the meantime.
            AlreadyExists: the key is in use.
        """
        with self._transaction() as connection:
            if parent is not None and not first_row(connection, _COMMITTED, parent):
                raise NotFound(f"snapshot {key}: its parent was removed in the meantime")
            refuse_taken(connection, key)
            connection.execute(
                "INSERT INTO snapshot (id, key, parent, kind, created_ns, updated_ns, labels)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (snapshot_id, key, parent, int(kind), now, now, labels_text(labels)),
            )

    def commit(
        self,
        key: str,
        name: str,
        *,
        expected_id: int,
        usage: Usage,
        labels: Mapping[str, str],
        recipe: str | None,
        now: int,
    ) -> None:
        """Turn an active snapshot into a committed one: the key is gone, the id stays.

        Args:
            key: of the active snapshot.
            name: of the committed one.
            expected_id: of the snapshot whose directory was measured for ``usage``.
            usage: what is kept as its usage.
            labels: replace those it had.
            recipe: the text of ``thin.json`` when it is a thin image's layer.
            now: nanoseconds since 1970.

        Raises:
            NotFound: there is no such key (or another snapshot has it by now).
            AlreadyExists: the name is in use.
            FailedPrecondition: the snapshot is not active.
        """
        with self._transaction() as connection:
            found = find(connection, key)
            refuse_taken(connection, name)
            if found.info.kind is not Kind.ACTIVE:
                raise FailedPrecondition(f"snapshot {key}: is not active")
            if found.id != expected_id:
                raise NotFound(f"snapshot {key}: was removed in the meantime")
            connection.execute(
                "UPDATE snapshot SET key = ?, kind = ?, created_ns = ?, updated_ns = ?, labels = ?,"
                " size_bytes = ?, inodes = ?, recipe = ? WHERE id = ?",
                (
                    name,
                    int(Kind.COMMITTED),
                    now,
                    now,
                    labels_text(labels),
                    usage.size_bytes,
                    usage.inodes,
                    keep_recipe(connection, recipe),
                    found.id,
                ),
            )

    def set_labels(self, key: str, changes: Mapping[str, str], *, replace: bool, now: int) -> Info:
        """Change labels; an empty value deletes one.

        Args:
            key: key or name of a snapshot.
            changes: labels to set.
            replace: forget all labels it has first.
            now: nanoseconds since 1970.

        Raises:
            NotFound: there is none of that key or name.
        """
        with self._transaction() as connection:
            found = find(connection, key)
            labels = dict(changes) if replace else {**found.info.labels, **changes}
            connection.execute(
                "UPDATE snapshot SET labels = ?, updated_ns = ? WHERE id = ?",
                (labels_text(labels), now, found.id),
            )
            return find(connection, key).info

    def remove(self, key: str) -> None:
        """Forget a snapshot, and the recipe that only it had.

        Raises:
            NotFound: there is none of that key or name.
            FailedPrecondition: others are stacked upon it.
        """
        with self._transaction() as connection:
            found = find(connection, key)
            child = first_row(connection, "SELECT key FROM snapshot WHERE parent = ?", found.id)
            if child is not None:
                raise FailedPrecondition(
                    f"cannot remove snapshot {key}: {child[0]} is stacked upon it"
                )
            connection.execute("DELETE FROM snapshot WHERE id = ?", (found.id,))
            connection.execute(
                "DELETE FROM recipe WHERE digest NOT IN"
                " (SELECT recipe FROM snapshot WHERE recipe IS NOT NULL)"
            )

    def add_claim(self, snapshot_id: int) -> None:
        """Remember that the daemon is asked to hold a root for a snapshot; may be repeated."""
        if self._exists("SELECT 1 FROM claim WHERE snapshot = ?", snapshot_id):
            return
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO claim (snapshot) VALUES (?)", (snapshot_id,))

    def drop_claim(self, snapshot_id: int) -> None:
        """Forget a claim that the daemon gave up; an unknown one is no error."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM claim WHERE snapshot = ?", (snapshot_id,))

    def claims(self) -> list[int]:
        """Give the ids of all snapshots that the daemon was asked to hold a root for."""
        with self._reading() as connection:
            return [row[0] for row in connection.execute("SELECT snapshot FROM claim")]

    def _exists(self, query: str, snapshot_id: int) -> bool:
        with self._reading() as connection:
            return first_row(connection, query, snapshot_id) is not None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys = ON")
        # A client that got its answer relies on it after a power cut, as with containerd's own.
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _migrate(self) -> None:
        with self._transaction() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == SCHEMA_VERSION:
                return
            if version != 0:
                raise InvalidArgument(
                    f"{self._path} has schema {version}, this thin-snapshotter knows"
                    f" {SCHEMA_VERSION}: start the version that wrote it"
                )
            schema = resources.files("snapshotter").joinpath("schema.sql").read_text()
            for statement in statements(schema):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _instance(self) -> str:
        return str(self._writer.execute("SELECT name FROM instance").fetchone()[0])

    def _reserve_ids(self) -> range:
        with self._transaction() as connection:
            first = connection.execute("SELECT next FROM id_block").fetchone()[0]
            connection.execute("UPDATE id_block SET next = ?", (first + IDS_PER_BLOCK,))
        return range(first, first + IDS_PER_BLOCK)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: all of the block, or nothing of it when it raises."""
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Borrow a connection that no other thread uses; one statement on it is one moment."""
        try:
            connection = self._readers.get_nowait()
        except Empty:
            connection = self._connect()
        try:
            yield connection
        finally:
            self._readers.put(connection)
