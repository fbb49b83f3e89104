from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import msgspec
import pytest
import trio
import trio.testing

from thinfs.errors import IntegrityError, StoreError, TransportError, UsageError
from thinfs.oci.recipe import (
    BlobRef,
    Recipe,
    RecipeExtension,
    RecipeRoot,
    render_recipe,
)
from thinfs.roots.contents import RootMap
from thinfs.roots.opening import OpenRoot, catalog_digest, root_id
from thinfs.roots.places import TreePlaces
from thinfs.roots.records import RootRecord, RootRecords
from thinfs.roots.roots import Roots

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.reader import CatalogReader


def recipe_text(digest: str, origin: str = "test/image:1") -> str:
    root = RecipeRoot(
        chain_id="sha256:" + "0" * 64,
        catalog=BlobRef(digest=f"sha256:{digest}", size=10, stored_size=5),
    )
    extension = RecipeExtension(repositories=["file:///r"], root=root)
    return render_recipe(Recipe("1.0", origin, [], extension)).decode()


UNREAD = cast("CatalogReader", object())
"""A catalog that nobody looks into."""

A, B = recipe_text("a" * 64), recipe_text("b" * 64)
ID_A, ID_B = "a" * 16, "b" * 16


@dataclass
class FakeOpener:
    """Opens whatever is asked for; ``gone`` makes it fail, ``cold`` are not in the cache."""

    gone: bool = False
    cold: set[str] = field(default_factory=set)
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    gate: trio.Event | None = None

    async def open(self, recipe: Recipe, *, cached_only: bool = False) -> OpenRoot | None:
        digest = catalog_digest(recipe)
        root = root_id(digest)
        if cached_only and root in self.cold:
            return None
        if self.gate is not None:
            await self.gate.wait()
        if self.gone:
            raise TransportError("no repository answers")
        self.opened.append(root)
        return OpenRoot(root, digest, recipe, RootMap(catalog=UNREAD), ())

    async def close(self, root: OpenRoot) -> None:
        self.closed.append(root.id)


@dataclass
class FakeShelf:
    shown: dict[str, int] = field(default_factory=dict)

    def show(self, slot: int, root: OpenRoot) -> None:
        assert root.id not in self.shown
        self.shown[root.id] = slot

    def hide(self, root: OpenRoot) -> None:
        del self.shown[root.id]


@pytest.fixture
def opener() -> FakeOpener:
    return FakeOpener()


@pytest.fixture
def shelf() -> FakeShelf:
    return FakeShelf()


@pytest.fixture
def records(tmp_path: Path) -> RootRecords:
    return RootRecords(tmp_path)


@pytest.fixture
def roots(tmp_path: Path, opener: FakeOpener, shelf: FakeShelf, records: RootRecords) -> Roots:
    return Roots(opener, records, shelf, TreePlaces(tmp_path / "mnt/trees"))


async def test_a_root_is_there_while_somebody_holds_it(roots: Roots, shelf: FakeShelf) -> None:
    root = await roots.attach("one", A)
    assert root.directory.endswith(f"/mnt/trees/{ID_A}")
    assert root.holders == ["one"]
    assert (await roots.attach("two", A)).holders == ["one", "two"]
    await roots.detach("one")
    assert shelf.shown == {ID_A: 1}
    await roots.detach("two")
    assert shelf.shown == {}
    assert roots.roots() == []


async def test_asking_again_changes_nothing(roots: Roots, opener: FakeOpener) -> None:
    assert await roots.attach("one", A) == await roots.attach("one", A)
    assert opener.opened == [ID_A]


async def test_a_holder_that_asks_for_another_root_moves(roots: Roots, shelf: FakeShelf) -> None:
    await roots.attach("one", A)
    await roots.attach("one", B)
    assert shelf.shown == {ID_B: 2}


async def test_a_holder_that_cannot_move_keeps_what_it_has(
    roots: Roots, opener: FakeOpener, shelf: FakeShelf
) -> None:
    await roots.attach("one", A)
    opener.gone = True
    with pytest.raises(TransportError):
        await roots.attach("one", B)
    assert shelf.shown == {ID_A: 1}
    assert roots.roots()[0].holders == ["one"]


async def test_giving_up_what_one_does_not_have_is_no_error(roots: Roots) -> None:
    await roots.detach("nobody")


@pytest.mark.parametrize("holder", ["", "a/b", "a b", "x" * 201, "ü", "a\n"])
async def test_holders_have_plain_names(roots: Roots, holder: str) -> None:
    with pytest.raises(UsageError, match="is no holder"):
        await roots.attach(holder, A)


async def test_two_who_ask_at_once_wait_for_one_opening(roots: Roots, opener: FakeOpener) -> None:
    opener.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roots.attach, "one", A)
        nursery.start_soon(roots.attach, "two", A)
        await trio.testing.wait_all_tasks_blocked()
        opener.gate.set()
    assert opener.opened == [ID_A]
    assert sorted(roots.roots()[0].holders) == ["one", "two"]


async def test_a_slow_root_keeps_no_other_one_waiting(roots: Roots, opener: FakeOpener) -> None:
    gate = opener.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roots.attach, "one", A)
        await trio.testing.wait_all_tasks_blocked()
        opener.gate = None
        await roots.attach("two", B)
        assert [root.id for root in roots.roots()] == [ID_B]
        gate.set()
    assert len(roots.roots()) == 2


async def test_what_cannot_be_written_down_is_not_attached(
    roots: Roots, opener: FakeOpener, shelf: FakeShelf, tmp_path: Path
) -> None:
    (tmp_path / "roots").rmdir()
    with pytest.raises(StoreError):
        await roots.attach("one", A)
    assert shelf.shown == {}
    assert opener.closed == [ID_A]


async def test_catalogs_whose_digests_begin_alike_are_kept_apart(roots: Roots) -> None:
    await roots.attach("one", A)
    with pytest.raises(IntegrityError, match="begin with"):
        await roots.attach("two", recipe_text("a" * 63 + "0"))


async def test_a_restart_forgets_what_was_only_expected(
    roots: Roots, records: RootRecords, tmp_path: Path
) -> None:
    await roots.attach("expected.a", A)
    await roots.attach("expected.b", B)
    await roots.attach("two", B)
    await roots.aclose()
    later = Roots(FakeOpener(), records, FakeShelf(), TreePlaces(tmp_path))
    await later.restore()
    await later.place_restored()
    assert [root.holders for root in later.roots()] == [["two"]]
    assert [record.holders for record in records.load()] == [("two",)]


async def test_a_restart_brings_everything_back_with_the_same_slots(
    roots: Roots, records: RootRecords, tmp_path: Path
) -> None:
    await roots.attach("zero", recipe_text("c" * 64))
    await roots.attach("one", A)
    await roots.attach("two", B)
    await roots.attach("three", B)
    await roots.detach("zero")
    await roots.aclose()
    shelf = FakeShelf()
    later = Roots(FakeOpener(), records, shelf, TreePlaces(tmp_path))
    assert await later.restore() == []
    await later.place_restored()
    assert shelf.shown == {ID_A: 2, ID_B: 3}
    assert [root.holders for root in later.roots()] == [["one"], ["two", "three"]]
    await later.detach("two")
    await later.detach("three")
    await later.attach("four", B)
    assert shelf.shown == {ID_A: 2, ID_B: 4}


async def test_what_is_not_in_the_cache_is_brought_back_later(
    roots: Roots, records: RootRecords, tmp_path: Path
) -> None:
    await roots.attach("one", A)
    await roots.attach("two", B)
    opener = FakeOpener(cold={ID_A})
    later = Roots(opener, records, FakeShelf(), TreePlaces(tmp_path))
    (absent,) = await later.restore()
    await later.place_restored()
    assert (absent.id, [root.id for root in later.roots()]) == (ID_A, [ID_B])
    await later.bring_back(absent)
    assert [root.id for root in later.roots()] == [ID_A, ID_B]


@pytest.mark.expects_log("cannot be attached again: no repository answers")
async def test_a_holder_can_give_up_what_could_not_be_brought_back(
    roots: Roots, records: RootRecords, tmp_path: Path
) -> None:
    await roots.attach("one", A)
    later = Roots(FakeOpener(gone=True, cold={ID_A}), records, FakeShelf(), TreePlaces(tmp_path))
    (absent,) = await later.restore()
    await later.bring_back(absent)
    assert later.roots() == []
    assert len(records.load()) == 1
    await later.detach("one")
    assert records.load() == []


@pytest.mark.expects_log("cannot be attached again")
async def test_an_attempt_after_a_failed_restore_keeps_slot_and_holders(
    roots: Roots, records: RootRecords, tmp_path: Path
) -> None:
    await roots.attach("zero", B)
    await roots.attach("one", A)
    opener, shelf = FakeOpener(gone=True), FakeShelf()
    later = Roots(opener, records, shelf, TreePlaces(tmp_path))
    await later.restore()
    opener.gone = False
    root = await later.attach("two", A)
    assert root.holders == ["one", "two"]
    assert shelf.shown == {ID_A: 2}


def test_slots_are_never_given_away_twice(tmp_path: Path) -> None:
    assert [RootRecords(tmp_path).next_slot() for _ in range(3)] == [1, 2, 3]


@pytest.mark.expects_log("is damaged")
def test_a_damaged_slot_file_does_not_give_away_slots_in_use(
    tmp_path: Path, records: RootRecords
) -> None:
    records.save(RootRecord(id="abc", slot=7, recipe="{}", holders=("one",)))
    (tmp_path / "slot").write_bytes(b"\xff")
    assert records.next_slot() == 8


@pytest.mark.expects_log("root record .*broken.json is left out")
def test_a_damaged_record_is_left_out(tmp_path: Path, records: RootRecords) -> None:
    record = RootRecord(id="abc", slot=7, recipe="{}", holders=("one",))
    records.save(record)
    (tmp_path / "roots/broken.json").write_bytes(msgspec.json.encode(record)[:-5])
    assert records.load() == [record]
