from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from snapshotter.metastore import IDS_PER_BLOCK, Metastore
from snapshotter.model import (
    AlreadyExists,
    FailedPrecondition,
    Info,
    InvalidArgument,
    Kind,
    NotFound,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTHING = Usage()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metadata.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Metastore]:
    made = Metastore(path)
    yield made
    made.close()


def add(store: Metastore, key: str, parent: int | None = None, kind: Kind = Kind.ACTIVE) -> int:
    snapshot_id = store.new_id()
    store.create(snapshot_id, kind, key, parent, labels={"a": "1", "gone": ""}, now=5)
    return snapshot_id


def commit(store: Metastore, key: str, name: str, recipe: str | None = None) -> None:
    expected = store.get(key).id
    labels = {"b": "2"}
    store.commit(
        key, name, expected_id=expected, usage=Usage(7, 8), labels=labels, recipe=recipe, now=9
    )


def recipes(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM recipe").fetchone()[0])
    finally:
        connection.close()


def test_a_snapshot_is_remembered_with_all_that_was_said_of_it(store: Metastore) -> None:
    snapshot_id = add(store, "k/ü\0'")
    found = store.get("k/ü\0'")
    assert found.id == snapshot_id
    assert found.info == Info("k/ü\0'", "", Kind.ACTIVE, 5, 5, {"a": "1"})
    assert (found.usage, found.recipe) == (NOTHING, None)


def test_a_commit_replaces_key_labels_and_times_and_keeps_the_id(store: Metastore) -> None:
    base = add(store, "x")
    commit(store, "x", "base")
    snapshot_id = add(store, "y", base)
    commit(store, "y", "top")
    found = store.get("top")
    assert found.id == snapshot_id
    assert found.info == Info("top", "base", Kind.COMMITTED, 9, 9, {"b": "2"})
    assert found.usage == Usage(7, 8)
    with pytest.raises(NotFound):
        store.get("y")


def test_everything_is_there_again_after_the_store_was_opened_anew(path: Path) -> None:
    first = Metastore(path)
    add(first, "x")
    commit(first, "x", "base", recipe="text")
    first.add_claim(4)
    instance, taken = first.instance, first.new_id()
    first.close()
    second = Metastore(path)
    assert second.get("base").recipe == "text"
    assert second.claims() == [4]
    assert second.instance == instance
    assert second.new_id() > taken
    second.close()


def test_ids_are_never_given_twice(path: Path) -> None:
    given: list[int] = []
    for _ in range(3):
        store = Metastore(path)
        given += [store.new_id() for _ in range(IDS_PER_BLOCK + 1)]
        store.close()
    assert sorted(set(given)) == given


def test_two_stores_do_not_take_each_others_claims_for_their_own(tmp_path: Path) -> None:
    stores = [Metastore(tmp_path / name) for name in "ab"]
    assert len({store.instance for store in stores}) == 2
    for store in stores:
        store.close()


def test_a_store_of_another_version_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InvalidArgument, match="schema 99"):
        Metastore(path)


def test_a_chain_begins_with_the_snapshot_and_ends_with_the_base(store: Metastore) -> None:
    parent = None
    for depth in range(130):
        parent = add(store, "x", parent)
        commit(store, "x", f"layer {depth}", recipe="text" if depth == 0 else None)
    chain = store.chain("layer 129")
    assert [s.info.name for s in chain] == [f"layer {d}" for d in range(129, -1, -1)]
    assert [s.recipe for s in chain[-2:]] == [None, "text"]
    with pytest.raises(NotFound):
        store.chain("unknown")


def test_all_gives_every_snapshot_in_the_order_of_keys(store: Metastore) -> None:
    for key in ("b", "a", "c"):
        add(store, key)
    assert [info.name for info in store.all()] == ["a", "b", "c"]


def test_a_parent_must_exist_and_be_committed_and_the_key_be_free(store: Metastore) -> None:
    active = add(store, "active")
    with pytest.raises(NotFound, match="parent"):
        store.parents("new", "unknown")
    with pytest.raises(InvalidArgument, match="not committed"):
        store.parents("new", "active")
    with pytest.raises(AlreadyExists):
        store.parents("active", "")
    with pytest.raises(NotFound, match="parent"):
        add(store, "new", active)
    with pytest.raises(NotFound, match="parent"):
        add(store, "new", 999)
    with pytest.raises(AlreadyExists):
        add(store, "active")
    assert [info.name for info in store.all()] == ["active"]


def test_a_commit_is_refused_unless_the_key_is_active_and_the_name_free(store: Metastore) -> None:
    add(store, "x")
    commit(store, "x", "base")
    add(store, "view", kind=Kind.VIEW)
    add(store, "active")
    with pytest.raises(FailedPrecondition):
        commit(store, "view", "new")
    with pytest.raises(FailedPrecondition):
        commit(store, "base", "new")
    with pytest.raises(AlreadyExists):
        commit(store, "active", "base")
    with pytest.raises(AlreadyExists):
        commit(store, "active", "active")
    with pytest.raises(NotFound):
        store.commit("active", "new", expected_id=999, usage=NOTHING, labels={}, recipe=None, now=1)


def test_only_what_nothing_stands_upon_can_be_removed(store: Metastore) -> None:
    base = add(store, "x")
    commit(store, "x", "base")
    add(store, "top", base)
    with pytest.raises(FailedPrecondition, match="cannot remove"):
        store.remove("base")
    store.remove("top")
    store.remove("base")
    assert store.all() == []
    with pytest.raises(NotFound):
        store.remove("base")


def test_a_removed_key_can_be_used_again_at_once(store: Metastore) -> None:
    first = add(store, "k")
    store.remove("k")
    assert add(store, "k") != first


def test_a_recipe_goes_with_the_last_snapshot_that_has_it(store: Metastore, path: Path) -> None:
    for name in ("one", "two"):
        add(store, "x")
        commit(store, "x", name, recipe="the same")
    assert recipes(path) == 1
    store.remove("one")
    assert store.get("two").recipe == "the same"
    store.remove("two")
    assert recipes(path) == 0


def test_labels_are_added_deleted_and_replaced(store: Metastore) -> None:
    add(store, "k")
    assert store.set_labels("k", {"b": "2"}, replace=False, now=6).labels == {"a": "1", "b": "2"}
    assert store.set_labels("k", {"a": ""}, replace=False, now=7).labels == {"b": "2"}
    info = store.set_labels("k", {"c": "3", "d": ""}, replace=True, now=8)
    assert info == Info("k", "", Kind.ACTIVE, 5, 8, {"c": "3"})
    with pytest.raises(NotFound):
        store.set_labels("unknown", {}, replace=True, now=1)


def test_claims_may_be_added_and_dropped_more_than_once(store: Metastore) -> None:
    for _ in range(2):
        store.add_claim(3)
    assert store.claims() == [3]
    for _ in range(2):
        store.drop_claim(3)
    assert store.claims() == []


def test_only_active_and_view_snapshots_can_be_mounted(store: Metastore) -> None:
    ids = [add(store, "x"), add(store, "v", kind=Kind.VIEW), add(store, "a")]
    commit(store, "x", "base")
    assert [store.is_mountable(i) for i in [*ids, 999]] == [False, True, True, False]
    assert [store.has(i) for i in [*ids, 999]] == [True, True, True, False]


def test_a_transaction_that_fails_leaves_nothing_behind(store: Metastore) -> None:
    add(store, "k")
    with pytest.raises(sqlite3.IntegrityError), store._transaction() as connection:
        connection.executemany(
            "UPDATE snapshot SET labels = '{}', kind = ?", [(int(Kind.ACTIVE),), (7,)]
        )
    assert store.get("k").info.labels == {"a": "1"}
    add(store, "next")


def test_closing_twice_is_no_error(path: Path) -> None:
    store = Metastore(path)
    store.all()
    store.close()
    store.close()
