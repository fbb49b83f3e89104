"""The schema as Python sees it: statements without comments, identity, and ranges of values."""

from __future__ import annotations

import functools
import re
import sqlite3
from pathlib import Path
from typing import Final

APPLICATION_ID: Final = 0x7468_6366
"""In the SQLite header (``thcf``): this file is a catalog."""

USER_VERSION: Final = 1
"""In the SQLite header: version of the schema."""

FLAG_OPAQUE: Final = 1
FLAG_IMPLIED: Final = 2

MAX_INO: Final = (1 << 40) - 1
MAX_INT64: Final = (1 << 63) - 1
MIN_INT64: Final = -(1 << 63)
MAX_ID: Final = (1 << 32) - 1
MAX_MAJOR: Final = (1 << 12) - 1
MAX_MINOR: Final = (1 << 20) - 1
MAX_TARGET_BYTES: Final = 4095
"""Longest symlink target (PATH_MAX without its NUL)."""

MAX_LINK_PATH_BYTES: Final = 1 << 16
"""Longest path that a pending hard link may name."""

MAX_XATTR_NAME_BYTES: Final = 255
MAX_XATTR_VALUE_BYTES: Final = 1 << 16
MAX_XATTR_LIST_BYTES: Final = 1 << 16
"""Most bytes of one inode's attribute names, each with a NUL (the kernel's XATTR_LIST_MAX)."""

MAX_SYMLINK_HOPS: Final = 255
"""Most symlinks followed for one path (as many as containerd's fs.RootPath)."""

SchemaRow = tuple[str, str, str, str]


@functools.cache
def statements() -> tuple[str, ...]:
    """The CREATE statements, without comments and with single spaces."""
    text = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
    bare = re.sub(r"--[^\n]*", "", text)
    return tuple(" ".join(part.split()) for part in bare.split(";") if part.strip())


def create(db: sqlite3.Connection) -> None:
    """Make the tables of an empty catalog in the main database of ``db``."""
    db.execute(f"PRAGMA main.application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA main.user_version = {USER_VERSION}")
    for statement in statements():
        db.execute(statement)


@functools.cache
def expected() -> tuple[SchemaRow, ...]:
    """What ``sqlite_schema`` of every catalog holds; see :func:`found`."""
    db = sqlite3.connect(":memory:")
    try:
        create(db)
        return found(db)
    finally:
        db.close()


def found(db: sqlite3.Connection) -> tuple[SchemaRow, ...]:
    """The (type, name, table, sql) rows of ``db``, at most one more than a catalog has."""
    limit = len(statements()) + 1
    query = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name LIMIT ?"
    return tuple(db.execute(query, (limit,)))
