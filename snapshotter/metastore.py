"""The snapshotter's metadata in SQLite: keys, parents, labels, recipes and claims.

Methods of :class:`Metastore` may be called from any thread and each is one transaction: it
happened as a whole or not at all, also after ``kill -9`` or a power cut. Nothing here touches a
snapshot's directory. The schema, with the meaning of each column, is ``schema.sql``.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from contextlib import contextmanager
from importlib import resources
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from snapshotter.model import (
    AlreadyExists,
    FailedPrecondition,
    Info,
    InvalidArgument,
    Kind,
    NotFound,
    Snapshot,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 60.0
IDS_PER_BLOCK = 32
"""Ids are reserved in blocks, so that not each of them costs a synchronous write."""

_SNAPSHOT = """
    SELECT s.id, s.key, coalesce(p.key, ''), s.kind, s.created_ns, s.updated_ns, s.labels,
           s.size_bytes, s.inodes, r.text
    FROM snapshot AS s
    LEFT JOIN snapshot AS p ON p.id = s.parent
    LEFT JOIN recipe AS r ON r.digest = s.recipe
"""
_CHAIN = f"""
    WITH RECURSIVE chain (id, parent, depth) AS (
        SELECT id, parent, 0 FROM snapshot WHERE key = ?
        UNION ALL
        SELECT s.id, s.parent, chain.depth + 1 FROM snapshot AS s JOIN chain ON s.id = chain.parent
    )
    {_SNAPSHOT} JOIN chain ON chain.id = s.id ORDER BY chain.depth
"""  # noqa: S608 - made of constants
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
            return _get(connection, key)

    def chain(self, key: str) -> list[Snapshot]:
        """Give a snapshot and all below it, itself first and the base last, as of one moment.

        Raises:
            NotFound: there is none of that key or name.
        """
        with self._reading() as connection:
            found = [_snapshot(row) for row in connection.execute(_CHAIN, (key,))]
        if not found:
            raise NotFound(f"snapshot {key}: does not exist")
        return found

    def all(self) -> list[Info]:
        """Give all snapshots as of one moment, in the order of their keys."""
        with self._reading() as connection:
            return [_snapshot(row).info for row in connection.execute(_SNAPSHOT + "ORDER BY s.key")]

    def parents(self, key: str, parent: str) -> list[Snapshot]:
        """Give what a new snapshot would stand upon, the nearest first; nothing for no parent.

        Raises:
            NotFound: there is no such parent.
            InvalidArgument: the parent is not committed.
            AlreadyExists: the key is in use.
        """
        with self._reading() as connection:
            if parent:
                _committed(connection, parent)
            _refuse_taken(connection, key)
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
            if parent is not None and not _row(connection, _COMMITTED, parent):
                raise NotFound(f"snapshot {key}: its parent was removed in the meantime")
            _refuse_taken(connection, key)
            connection.execute(
                "INSERT INTO snapshot (id, key, parent, kind, created_ns, updated_ns, labels)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (snapshot_id, key, parent, int(kind), now, now, _labels_text(labels)),
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
            found = _get(connection, key)
            _refuse_taken(connection, name)
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
                    _labels_text(labels),
                    usage.size_bytes,
                    usage.inodes,
                    _keep_recipe(connection, recipe),
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
            found = _get(connection, key)
            labels = dict(changes) if replace else {**found.info.labels, **changes}
            connection.execute(
                "UPDATE snapshot SET labels = ?, updated_ns = ? WHERE id = ?",
                (_labels_text(labels), now, found.id),
            )
            return _get(connection, key).info

    def remove(self, key: str) -> None:
        """Forget a snapshot, and the recipe that only it had.

        Raises:
            NotFound: there is none of that key or name.
            FailedPrecondition: others are stacked upon it.
        """
        with self._transaction() as connection:
            found = _get(connection, key)
            child = _row(connection, "SELECT key FROM snapshot WHERE parent = ?", found.id)
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
            return _row(connection, query, snapshot_id) is not None

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
            for statement in _statements(schema):
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


def _statements(script: str) -> Iterator[str]:
    """Split SQL into statements: ``executescript`` would end the transaction it runs in."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def _snapshot(row: tuple[Any, ...]) -> Snapshot:
    snapshot_id, key, parent, kind, created_ns, updated_ns, labels, size, inodes, recipe = row
    info = Info(key, parent, Kind(kind), created_ns, updated_ns, json.loads(labels))
    return Snapshot(snapshot_id, info, Usage(size, inodes), recipe)


def _row(connection: sqlite3.Connection, query: str, value: str | int) -> tuple[Any, ...] | None:
    """Give the first row of a query with one placeholder, None when there is none."""
    row: tuple[Any, ...] | None = connection.execute(query, (value,)).fetchone()
    return row


def _get(connection: sqlite3.Connection, key: str) -> Snapshot:
    row = _row(connection, _SNAPSHOT + "WHERE s.key = ?", key)
    if row is None:
        raise NotFound(f"snapshot {key}: does not exist")
    return _snapshot(row)


def _committed(connection: sqlite3.Connection, parent: str) -> Snapshot:
    try:
        found = _get(connection, parent)
    except NotFound as error:
        raise NotFound(f"parent snapshot {parent}: does not exist") from error
    if found.info.kind is not Kind.COMMITTED:
        raise InvalidArgument(f"parent snapshot {parent}: is not committed")
    return found


def _refuse_taken(connection: sqlite3.Connection, key: str) -> None:
    if _row(connection, "SELECT 1 FROM snapshot WHERE key = ?", key) is not None:
        raise AlreadyExists(f"snapshot {key}: already exists")


def _labels_text(labels: Mapping[str, str]) -> str:
    return json.dumps({name: value for name, value in labels.items() if value})


def _keep_recipe(connection: sqlite3.Connection, text: str | None) -> str | None:
    """Store a recipe and give its digest."""
    if text is None:
        return None
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    connection.execute("INSERT OR IGNORE INTO recipe (digest, text) VALUES (?, ?)", (digest, text))
    return digest
