"""Book-keeping of an earlier version is brought up to date; nothing that is kept is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from tests.support.reading import patterned, sha256
from thinfs.cache.directory import NodeCache

if TYPE_CHECKING:
    from pathlib import Path

BODY = patterned(10_000, 1)


def opened(folder: Path) -> NodeCache:
    cache = NodeCache(folder / "cache", max_bytes=1 << 30, low_water=0.9)
    cache.open()
    return cache


def test_a_cache_without_tables_of_images_gets_them_and_keeps_what_it_has(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.add_contents({sha256(BODY): BODY})
    cache.close()
    with closing(sqlite3.connect(cache.places.state)) as db:
        db.executescript("DROP TABLE images; DROP TABLE image_files; PRAGMA user_version = 3;")
    again = opened(tmp_path)
    with again.state.transaction() as db:
        assert db.execute("SELECT count(*) FROM images").fetchone() == (0,)
        assert db.execute("SELECT digest FROM files").fetchall() == [(sha256(BODY),)]
    again.close()
    assert not list(again.places.root.glob("state.sqlite.damaged-*"))
