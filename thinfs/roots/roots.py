"""The roots of this node: who holds which, and what a restart brings back.

Concurrency: everything about one root happens under that root's lock, so two holders that ask
at once wait for one download, and a root that is slow to come keeps no other one waiting. No
task has two of these locks. A holder that moves its claim has both roots for a moment, never
none.
"""

from __future__ import annotations

import logging
import re
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

import trio
from msgspec.structs import replace

from thinfs.control.values import Root
from thinfs.errors import IntegrityError, ThinfsError, UsageError
from thinfs.oci.recipe import parse_recipe
from thinfs.roots.opening import catalog_digest, root_id
from thinfs.roots.records import EXPECTED, RootRecord
from thinfs.roots.steps import NoSteps, timed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from thinfs.oci.recipe import Recipe
    from thinfs.roots.opening import OpenRoot
    from thinfs.roots.places import Place, Places
    from thinfs.roots.records import RootRecords
    from thinfs.roots.steps import Steps

log = logging.getLogger(__name__)

_HOLDER: Final = re.compile(r"[A-Za-z0-9._-]{1,200}\Z")


class Opener(Protocol):
    """Opens and closes roots, as :class:`thinfs.roots.opening.RootOpener` does."""

    async def open(self, recipe: Recipe, *, cached_only: bool = False) -> OpenRoot | None:
        """Open a root; ``None`` only when ``cached_only`` and it is not in the cache."""
        ...

    async def close(self, root: OpenRoot) -> None:
        """Give a root up."""
        ...


class Shelf(Protocol):
    """Where open roots are shown."""

    def show(self, slot: int, root: OpenRoot) -> None:
        """Serve a root's tree; must not wait."""
        ...

    def hide(self, root: OpenRoot) -> None:
        """Serve it no longer; must not wait."""
        ...


class Roots:
    """Attaches roots for holders and detaches what nobody holds.

    A root is *known* while somebody holds it, *open* while it is also served, and *placed* once
    others can mount it: what a restart could not bring back is known and not open.

    Args:
        opener: opens roots.
        records: what survives a restart.
        shelf: where attached roots are shown.
        places: where they are for others to mount.
        steps: hears when roots come and go.
    """

    def __init__(
        self,
        opener: Opener,
        records: RootRecords,
        shelf: Shelf,
        places: Places,
        steps: Steps | None = None,
    ) -> None:
        self._steps = steps or NoSteps()
        self._opener = opener
        self._records = records
        self._shelf = shelf
        self._places = places
        self._known: dict[str, RootRecord] = {}
        self._open: dict[str, OpenRoot] = {}
        self._placed: dict[str, Place] = {}
        self._locks: weakref.WeakValueDictionary[str, trio.Lock] = weakref.WeakValueDictionary()
        self._giving_slots = trio.Lock()

    def opened(self, root_id: str) -> OpenRoot | None:
        """An open root."""
        return self._open.get(root_id)

    def roots(self) -> list[Root]:
        """What is placed, in the order in which it came."""
        records = (self._known[root] for root in self._placed)
        return [self._value(record.id) for record in sorted(records, key=lambda r: r.slot)]

    async def restore(self) -> list[RootRecord]:
        """Attach what was attached before a restart, from cached catalogs alone; call it first.

        Returns:
            Records whose catalogs are not in the cache; see :meth:`bring_back`.

        Call :meth:`place_restored` when the file system is mounted.
        """
        records = [
            left
            for record in await trio.to_thread.run_sync(self._records.load)
            if (left := await self._without_expected(record)) is not None
        ]
        self._known = {record.id: record for record in records}
        for record in records:
            await self._restore(record.id, cached_only=True, place=False)
        return [record for record in records if record.id not in self._open]

    async def _without_expected(self, record: RootRecord) -> RootRecord | None:
        """A record without holders that ended with the last process; none if nobody is left."""
        left = tuple(holder for holder in record.holders if not holder.startswith(EXPECTED))
        if left == record.holders:
            return record
        if not left:
            await trio.to_thread.run_sync(self._records.delete, record.id)
            return None
        record = replace(record, holders=left)
        await trio.to_thread.run_sync(self._records.save, record)
        return record

    async def place_restored(self) -> list[RootRecord]:
        """Give what :meth:`restore` has opened its place; a failure is only logged.

        Returns:
            Records whose roots may have to wait for the network first; see :meth:`bring_back`.
        """
        here = [root.id for root in self._open.values() if root.contents.complete]
        for root in here:
            await self._restore(root, cached_only=True, place=True)
        return [self._known[root] for root in self._open if root not in here]

    async def bring_back(self, record: RootRecord) -> None:
        """Fetch, attach and place what could not be at once; a failure is only logged."""
        await self._restore(record.id, cached_only=False, place=True)

    async def attach(self, holder: str, text: str) -> Root:
        """Make a root available until its holder gives it up; asking again changes nothing.

        Args:
            holder: 1 to 200 characters of ``[A-Za-z0-9._-]``. Its claim on another root moves.
            text: of ``thin.json``.

        Raises:
            UsageError: the holder's name is malformed, or no repository is allowed.
            ThinfsError: what :meth:`thinfs.roots.opening.RootOpener.open` raises.
        """
        if not _HOLDER.match(holder):
            raise UsageError(f"{holder[:200]!r} is no holder: 1 to 200 of A-Z a-z 0-9 . _ -")
        recipe = parse_recipe(text.encode())
        digest = catalog_digest(recipe)
        root = root_id(digest)
        async with self._alone(root):
            self._refuse_namesake(root, digest)
            held = root in self._known and holder in self._known[root].holders
            if root in self._open:
                await self._claim(root, holder, text)
            else:
                await self._open_for(holder, recipe, text)
            with timed(self._steps, root, "attach", f"for {holder}"):
                await self._place_for(root, holder, held=held)
            value = self._value(root)
        await self._release(holder, keep=root)
        return value

    async def detach(self, holder: str) -> None:
        """Give up one holder's claim; nothing happens when it has none."""
        await self._release(holder, keep="")

    async def aclose(self, *, keep_places: bool = False) -> None:
        """Stop serving, and keep all records for the next start.

        Args:
            keep_places: leave to the next process what is mounted.
        """
        while self._open:
            _, root = self._open.popitem()
            self._placed.pop(root.id, None)
            if not keep_places:
                await self._places.remove(root)
            self._shelf.hide(root)
            await self._opener.close(root)

    def _refuse_namesake(self, root: str, digest: bytes) -> None:
        """Keep apart two catalogs whose digests begin alike: slot and directory are one's own."""
        known = self._known.get(root)
        if known is not None and catalog_digest(parse_recipe(known.recipe.encode())) != digest:
            raise IntegrityError(f"two catalogs have digests that begin with {root}: refused")

    async def _open_for(self, holder: str, recipe: Recipe, text: str) -> None:
        root = root_id(catalog_digest(recipe))
        self._steps.begin(root, recipe.origin)
        try:
            opened = await self._opener.open(recipe)
        except BaseException:
            self._steps.end(root)
            raise
        assert opened is not None
        try:
            record = await self._claim(opened.id, holder, text)
        except BaseException:
            self._steps.end(root)
            with trio.CancelScope(shield=True):
                await self._opener.close(opened)
            raise
        self._show(opened, record)

    async def _place_for(self, root: str, holder: str, *, held: bool) -> None:
        """Place a root; when that fails, a holder that had no claim before has none after."""
        try:
            if not held or root not in self._placed:
                await self._place(root)
        except BaseException:
            if not held:
                with trio.CancelScope(shield=True):
                    await self._drop(root, holder)
            raise

    async def _place(self, root: str) -> None:
        self._placed[root] = await self._places.place(self._open[root])

    async def _claim(self, root: str, holder: str, text: str) -> RootRecord:
        known = self._known.get(root)
        if known is None:
            record = RootRecord(root, await self._slot(), text, (holder,))
        elif holder in known.holders:
            return known
        else:
            record = replace(known, holders=(*known.holders, holder))
        return await self._save(record)

    async def _slot(self) -> int:
        async with self._giving_slots:
            return await trio.to_thread.run_sync(self._records.next_slot)

    async def _save(self, record: RootRecord) -> RootRecord:
        await trio.to_thread.run_sync(self._records.save, record)
        self._known[record.id] = record
        return record

    async def _release(self, holder: str, *, keep: str) -> None:
        for root in [root for root, record in self._known.items() if holder in record.holders]:
            if root != keep:
                async with self._alone(root):
                    await self._drop(root, holder)

    async def _drop(self, root: str, holder: str) -> None:
        known = self._known.get(root)
        if known is None or holder not in known.holders:
            return
        left = tuple(other for other in known.holders if other != holder)
        if left:
            await self._save(replace(known, holders=left))
            return
        await trio.to_thread.run_sync(self._records.delete, root)
        del self._known[root]
        self._placed.pop(root, None)
        opened = self._open.pop(root, None)
        if opened is not None:
            with trio.CancelScope(shield=True):
                await self._places.remove(opened)
                self._shelf.hide(opened)
                await self._opener.close(opened)
            self._steps.end(root)
            log.info("detached %s (%s)", root, opened.recipe.origin)

    async def _restore(self, root: str, *, cached_only: bool, place: bool) -> None:
        try:
            async with self._alone(root):
                record = self._known.get(root)
                if record is not None and root not in self._open:
                    recipe = parse_recipe(record.recipe.encode())
                    opened = await self._opener.open(recipe, cached_only=cached_only)
                    if opened is not None:
                        self._show(opened, record)
                if place and root in self._open and root not in self._placed:
                    await self._place(root)
        except ThinfsError as error:
            log.error("root %s cannot be attached again: %s", root, error)  # noqa: TRY400 - its reader can act on the message

    def _show(self, root: OpenRoot, record: RootRecord) -> None:
        self._steps.begin(root.id, root.recipe.origin)
        self._shelf.show(record.slot, root)
        self._open[root.id] = root
        log.info("attached %s (%s)", root.id, root.recipe.origin)

    @asynccontextmanager
    async def _alone(self, root: str) -> AsyncIterator[None]:
        """Have one root's lock; it is forgotten when no task has or wants it."""
        lock = self._locks.setdefault(root, trio.Lock())
        async with lock:
            yield

    def _value(self, root: str) -> Root:
        place = self._placed[root]
        return Root(
            id=root,
            mode=place.mode,
            lowerdir=place.lowerdir,
            directory=place.directory,
            origin=self._open[root].recipe.origin,
            holders=list(self._known[root].holders),
        )
