"""Roots that somebody will probably want in a moment.

A client that pulls a thin image and then starts it leaves a tenth of a second or more between the
two. A root that is expected is attached in that time, so that its first objects are on their way
before the container is made.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

import trio

from thinfs.errors import ThinfsError
from thinfs.oci.recipe import parse_recipe
from thinfs.roots.opening import catalog_digest, root_id
from thinfs.roots.records import EXPECTED

if TYPE_CHECKING:
    from thinfs.control.values import Root

log = logging.getLogger(__name__)

EXPECTED_S: Final = 60.0
"""How long a root is kept for a container that does not come."""

MOST: Final = 64
"""Roots that are expected at once; more are not attached before they are asked for."""


class Attacher(Protocol):
    """Attaches roots for holders, as :class:`thinfs.roots.roots.Roots` does."""

    async def attach(self, holder: str, text: str, /) -> Root:
        """Make a root available."""
        ...

    async def detach(self, holder: str, /) -> None:
        """Give up a claim."""
        ...


class Expected:
    """Holds roots for containers that have not come yet.

    Args:
        nursery: where they are attached; what is held is given up when it ends.
        roots: attaches them.
    """

    def __init__(self, nursery: trio.Nursery, roots: Attacher) -> None:
        self._nursery = nursery
        self._roots = roots
        self._waiting: dict[str, trio.Event] = {}

    def expect(self, text: str) -> None:
        """Attach a root soon, and keep it for a while; must not wait.

        Args:
            text: of ``thin.json``.

        Raises:
            FormatError: it is no recipe of ours.
        """
        root = root_id(catalog_digest(parse_recipe(text.encode())))
        if root not in self._waiting and len(self._waiting) < MOST:
            self._waiting[root] = trio.Event()
            self._nursery.start_soon(self._hold, root, text)

    def met(self, root: str) -> None:
        """Somebody has it: it need not be held for others."""
        if root in self._waiting:
            self._waiting[root].set()

    async def _hold(self, root: str, text: str) -> None:
        holder = f"{EXPECTED}{root}"
        try:
            await self._roots.attach(holder, text)
            with trio.move_on_after(EXPECTED_S):
                await self._waiting[root].wait()
        except ThinfsError as error:
            log.info("root %s was expected, and cannot be attached: %s", root, error)
        finally:
            del self._waiting[root]
            with trio.CancelScope(shield=True):
                await self._give_up(holder)

    async def _give_up(self, holder: str) -> None:
        try:
            await self._roots.detach(holder)
        except ThinfsError as error:
            log.warning("%s stays attached: %s", holder, error)
