"""The check of rows against directories notices each kind of disagreement."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.support.snapshots import (
    disagreements,
    forgotten_holders,
    needless_holders,
    orphans,
)

if TYPE_CHECKING:
    from tests.support.snapshots import Bench


def damage(bench: Bench, statement: str) -> None:
    connection = sqlite3.connect(bench.root / "metadata.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.fixture
def sound(bench: Bench) -> Bench:
    bench.commit_thin("thin")
    bench.commit_ordinary("above", "thin")
    bench.snapshotter.prepare("active", "above", {})
    bench.snapshotter.view("view", "thin", {})
    bench.snapshotter.cleanup()
    return bench


def test_nothing_is_found_where_all_agrees(sound: Bench) -> None:
    assert not list(disagreements(sound.layout, sound.store))
    assert not list(orphans(sound.layout, sound.store))
    assert not list(forgotten_holders(sound.store, sound.roots))
    assert not list(needless_holders(sound.store, sound.roots))


def test_a_missing_directory_is_noticed(sound: Bench) -> None:
    shutil.rmtree(sound.fs("above").parent)
    assert list(disagreements(sound.layout, sound.store)) == [
        "above has no fs",
        "above has no work",
    ]


def test_a_missing_work_directory_is_noticed(sound: Bench) -> None:
    shutil.rmtree(sound.fs("active").parent / "work")
    assert list(disagreements(sound.layout, sound.store)) == ["active has no work"]


def test_a_parent_that_is_not_committed_is_noticed(sound: Bench) -> None:
    damage(sound, "UPDATE snapshot SET kind = 2 WHERE key = 'above'")
    assert list(disagreements(sound.layout, sound.store)) == [
        "active stands upon above, which is not committed"
    ]


def test_a_directory_of_nobody_is_noticed(sound: Bench) -> None:
    (sound.layout.directory / "999").mkdir()
    assert list(orphans(sound.layout, sound.store)) == ["directory 999 belongs to no snapshot"]


def test_a_forgotten_claim_is_noticed(sound: Bench) -> None:
    holder = sound.holder("view")
    sound.store.drop_claim(sound.store.get("view").id)
    assert list(forgotten_holders(sound.store, sound.roots)) == [
        f"{holder} holds a root and is forgotten"
    ]


def test_a_root_that_nobody_needs_and_one_that_is_missing_are_noticed(sound: Bench) -> None:
    sound.roots.attach("snapshot-x-1", "text")
    holder = sound.holder("view")
    sound.roots.detach(holder)
    assert list(needless_holders(sound.store, sound.roots)) == [
        "snapshot-x-1 holds a root that nobody needs",
        f"{holder} needs a root and does not hold it",
    ]
