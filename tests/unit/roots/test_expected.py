from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from thinfs.control.values import Root
from thinfs.errors import FormatError, TransportError
from thinfs.oci.recipe import (
    BlobRef,
    Recipe,
    RecipeExtension,
    RecipeRoot,
    render_recipe,
)
from thinfs.roots.expected import EXPECTED_S, Expected

if TYPE_CHECKING:
    from thinfs.errors import ThinfsError

DIGEST = "sha256:" + "ab" * 32
ROOT = "ab" * 8
RECIPE = render_recipe(
    Recipe(
        version="1.0",
        origin="example/redis:4",
        layers=[],
        thinfs=RecipeExtension(
            repositories=["https://images.test"],
            root=RecipeRoot(chain_id=DIGEST, catalog=BlobRef(DIGEST, 1, 1)),
        ),
    )
).decode()


@dataclass
class FakeRoots:
    """Implements ``thinfs.roots.expected.Attacher``."""

    failure: ThinfsError | None = None
    holders: list[str] = field(default_factory=list)
    attached: int = 0

    async def attach(self, holder: str, text: str, /) -> Root:
        await trio.lowlevel.checkpoint()
        if self.failure:
            raise self.failure
        self.attached += 1
        self.holders.append(holder)
        return Root(ROOT, "tree", "/t", "/t", "", [holder])

    async def detach(self, holder: str, /) -> None:
        await trio.lowlevel.checkpoint()
        if holder in self.holders:
            self.holders.remove(holder)


async def test_an_expected_root_is_attached_until_somebody_has_it(
    nursery: trio.Nursery,
) -> None:
    roots = FakeRoots()
    expected = Expected(nursery, roots)
    expected.expect(RECIPE)
    await trio.testing.wait_all_tasks_blocked()
    assert roots.holders == [f"expected.{ROOT}"]
    expected.met(ROOT)
    await trio.testing.wait_all_tasks_blocked()
    assert roots.holders == []


async def test_nobody_comes_and_it_is_given_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    roots = FakeRoots()
    Expected(nursery, roots).expect(RECIPE)
    await trio.sleep(EXPECTED_S - 1)
    assert roots.holders
    await trio.sleep(2)
    assert not roots.holders


async def test_what_is_expected_twice_is_attached_once(nursery: trio.Nursery) -> None:
    roots = FakeRoots()
    expected = Expected(nursery, roots)
    expected.expect(RECIPE)
    expected.expect(RECIPE)
    await trio.testing.wait_all_tasks_blocked()
    assert roots.attached == 1
    nursery.cancel_scope.cancel()


async def test_what_cannot_be_attached_may_be_expected_again(nursery: trio.Nursery) -> None:
    roots = FakeRoots(failure=TransportError("nobody answers"))
    expected = Expected(nursery, roots)
    expected.expect(RECIPE)
    await trio.testing.wait_all_tasks_blocked()
    roots.failure = None
    expected.expect(RECIPE)
    await trio.testing.wait_all_tasks_blocked()
    assert roots.attached == 1
    nursery.cancel_scope.cancel()


async def test_what_is_no_recipe_is_refused(nursery: trio.Nursery) -> None:
    with pytest.raises(FormatError):
        Expected(nursery, FakeRoots()).expect("{}")
