"""Queries and rows of the metastore: what SQLite holds, as values of the model."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

from snapshotter.model import AlreadyExists, Info, InvalidArgument, Kind, NotFound, Snapshot, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SNAPSHOT = """
    SELECT s.id, s.key, coalesce(p.key, ''), s.kind, s.created_ns, s.updated_ns, s.labels,
           s.size_bytes, s.inodes, {recipe}
    FROM snapshot AS s
    LEFT JOIN snapshot AS p ON p.id = s.parent
    LEFT JOIN recipe AS r ON r.digest = s.recipe
"""
SNAPSHOT = _SNAPSHOT.format(recipe="r.text")
# A recipe may have 1 MiB: a list of all snapshots goes without.
ALL_SNAPSHOTS = _SNAPSHOT.format(recipe="NULL") + "ORDER BY s.key"
CHAIN = f"""
    WITH RECURSIVE chain (id, parent, depth) AS (
        SELECT id, parent, 0 FROM snapshot WHERE key = ?
        UNION ALL
        SELECT s.id, s.parent, chain.depth + 1 FROM snapshot AS s JOIN chain ON s.id = chain.parent
    )
    {SNAPSHOT} JOIN chain ON chain.id = s.id ORDER BY chain.depth
"""  # noqa: S608 - made of constants


def statements(script: str) -> Iterator[str]:
    """Split SQL into statements: ``executescript`` would end the transaction it runs in."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def snapshot_of(row: tuple[Any, ...]) -> Snapshot:
    """Make a snapshot of a row of :data:`SNAPSHOT`."""
    snapshot_id, key, parent, kind, created_ns, updated_ns, labels, size, inodes, recipe = row
    info = Info(key, parent, Kind(kind), created_ns, updated_ns, json.loads(labels))
    return Snapshot(snapshot_id, info, Usage(size, inodes), recipe)


def first_row(
    connection: sqlite3.Connection, query: str, value: str | int
) -> tuple[Any, ...] | None:
    """Give the first row of a query with one placeholder, None when there is none."""
    row: tuple[Any, ...] | None = connection.execute(query, (value,)).fetchone()
    return row


def find(connection: sqlite3.Connection, key: str) -> Snapshot:
    """Find a snapshot by its key or name.

    Raises:
        NotFound: there is none.
    """
    row = first_row(connection, SNAPSHOT + "WHERE s.key = ?", key)
    if row is None:
        raise NotFound(f"snapshot {key}: does not exist")
    return snapshot_of(row)


def committed(connection: sqlite3.Connection, parent: str) -> Snapshot:
    """Find a snapshot that others may stand upon.

    Raises:
        NotFound: there is none of that name.
        InvalidArgument: it is not committed.
    """
    try:
        found = find(connection, parent)
    except NotFound as error:
        raise NotFound(f"parent snapshot {parent}: does not exist") from error
    if found.info.kind is not Kind.COMMITTED:
        raise InvalidArgument(f"parent snapshot {parent}: is not committed")
    return found


def refuse_taken(connection: sqlite3.Connection, key: str) -> None:
    """See that nothing has this key or name yet.

    Raises:
        AlreadyExists: something has.
    """
    if first_row(connection, "SELECT 1 FROM snapshot WHERE key = ?", key) is not None:
        raise AlreadyExists(f"snapshot {key}: already exists")


def labels_text(labels: Mapping[str, str]) -> str:
    """Write labels as the column has them: without those whose value is empty."""
    return json.dumps({name: value for name, value in labels.items() if value})


def keep_recipe(connection: sqlite3.Connection, text: str | None) -> str | None:
    """Store a recipe and give its digest."""
    if text is None:
        return None
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    connection.execute("INSERT OR IGNORE INTO recipe (digest, text) VALUES (?, ?)", (digest, text))
    return digest
