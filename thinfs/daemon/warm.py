"""Bringing images to a node before anybody asks for them.

The process that is asked does it, on the cache that the daemon uses too: several processes may.
What arrives is found there by everybody at once, and stays when this process ends at any moment.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import trio

from catalog.errors import CatalogError
from thinfs.cache import images
from thinfs.cache.catalogs import CatalogStore
from thinfs.cache.places import Kind, counted
from thinfs.daemon.goals import goal_of
from thinfs.daemon.node import CLEAN_UP_S, contents_of, open_node
from thinfs.daemon.plain import the_one_error, until_signal
from thinfs.errors import FormatError, IntegrityError, MissingError, StoreError, ThinfsError
from thinfs.fetch.gate import Priority
from thinfs.oci.recipe import parse_recipe
from thinfs.store.layout import raw_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from catalog.model import ObjectRef
    from thinfs.cache.images import Files, Wanted
    from thinfs.cache.root import RootContents
    from thinfs.config import Config, SourcesConfig
    from thinfs.daemon.node import Node
    from thinfs.roots.opening import OpenRoot, RootOpener

log = logging.getLogger(__name__)

LOOK_AT: Final = 64
"""Objects that the disk is asked about at once."""

MAX_FAILURES: Final = 8
"""Objects of an image that cannot be had before the image is given up."""


class WarmProgress(Protocol):
    """Hears how far it is."""

    def total(self, files: int, size: int) -> None:
        """So many objects, with about so many stored bytes, make up all images."""
        ...

    def advance(self, files: int, size: int) -> None:
        """So many more of them are here."""
        ...


@dataclass(frozen=True, slots=True)
class Warming:
    """What to do.

    Attributes:
        config: ``[cache]`` says where to.
        images: none twice.
        pinned: whether they must stay.
        jobs: most objects on their way at once.
        bytes_per_s: most bytes to receive per second; 0: no limit.
    """

    config: Config
    images: tuple[Wanted, ...]
    pinned: bool
    jobs: int
    bytes_per_s: int


@dataclass(slots=True, eq=False)
class Warmed:
    """How it went with one image.

    Attributes:
        wanted: which one.
        files: files of the cache that make it up; 0 when that could not be found out.
        bytes: what they count.
        fetched_objects: objects that came over the network for it.
        fetched_bytes: their stored bytes.
        error: why it is not here, or ``None``.
    """

    wanted: Wanted
    files: int = 0
    bytes: int = 0
    fetched_objects: int = 0
    fetched_bytes: int = 0
    error: ThinfsError | None = None


@dataclass(slots=True, eq=False)
class _Plan:
    warmed: Warmed
    root: OpenRoot
    contents: RootContents
    files: Files
    objects: dict[bytes, ObjectRef]
    failures: list[ThinfsError] = field(default_factory=list)


def warm(job: Warming, progress: WarmProgress) -> list[Warmed]:
    """Bring images here; one that cannot be had does not keep the others from coming.

    Returns:
        One for each image, in their order.

    Raises:
        StoreError: the cache cannot be written, or there is no room for all of them: then
            nothing has been fetched but catalogs.
        KeyboardInterrupt: the process was told to stop. What has arrived stays.
    """
    try:
        done = trio.run(_until_told, job, progress)
    except BaseExceptionGroup as group:
        raise the_one_error(group) from group
    if done is None:
        raise KeyboardInterrupt
    return done


async def _until_told(job: Warming, progress: WarmProgress) -> list[Warmed] | None:
    done: list[Warmed] | None = None
    told = trio.CancelScope()
    config = msgspec.structs.replace(job.config, sources=_sources(job.config.sources, job))
    async with trio.open_nursery() as nursery:
        await nursery.start(until_signal, told)
        async with open_node(config) as node:
            with told:  # not the node: it writes down what has arrived
                done = await _Run(job, node, progress).all()
        nursery.cancel_scope.cancel()
    return done


def _sources(sources: SourcesConfig, job: Warming) -> SourcesConfig:
    # What nobody waits for may use three eighths of the connections: see thinfs.fetch.gate.
    return msgspec.structs.replace(
        sources,
        connections=-(-job.jobs * 8 // 3),
        background_bytes_per_s=job.bytes_per_s or sources.background_bytes_per_s,
    )


class _Run:
    """One run over all images."""

    def __init__(self, job: Warming, node: Node, progress: WarmProgress) -> None:
        self._job = job
        self._node = node
        self._progress = progress
        self._disk = node.contents.disk
        self._metadata = CatalogStore(
            node.cache, self._disk, node.fetcher, Kind.METADATA, node.traces
        )

    async def all(self) -> list[Warmed]:
        if not self._node.cache.writable:
            raise StoreError(f"{self._node.cache.places.root} cannot be written")
        opener = self._node.openers(True)
        found = [Warmed(wanted) for wanted in self._job.images]
        plans = [plan for each in found if (plan := await self._planned(opener, each))]
        try:
            await self._bring_all(plans)
        finally:
            with trio.move_on_after(CLEAN_UP_S, shield=True):
                for plan in plans:
                    self._node.contents.leave(plan.root.id)
                    await opener.close(plan.root)
        return found

    async def _bring_all(self, plans: Sequence[_Plan]) -> None:
        wanted = {plan.warmed.wanted: plan.files for plan in plans}
        pinned = self._job.pinned
        await self._disk.run(partial(images.remember, self._node.cache, wanted, pinned=pinned))
        refs = {ref.digest: ref.stored_size for plan in plans for ref in plan.objects.values()}
        self._progress.total(len(refs), sum(refs.values()))
        for plan in plans:
            # What images have in common is kept for all of them, whoever it came for.
            self._node.contents.join(plan.root.id, plan.contents)
        for plan in plans:
            try:
                await self._bring(plan)
            except ThinfsError as error:
                plan.warmed.error = error
        await self._disk.run(partial(images.make_durable, self._node.cache))

    # Planning

    async def _planned(self, opener: RootOpener, warmed: Warmed) -> _Plan | None:
        try:
            root = await opener.open(parse_recipe(warmed.wanted.recipe.encode()))
            assert root is not None
            try:
                return await self._plan(root, warmed)
            except BaseException:
                with trio.move_on_after(CLEAN_UP_S, shield=True):
                    await opener.close(root)
                raise
        except CatalogError as error:
            warmed.error = FormatError(str(error))
        except ThinfsError as error:
            warmed.error = error
        return None

    async def _plan(self, root: OpenRoot, warmed: Warmed) -> _Plan:
        catalog = await root.contents.catalog()
        goal = goal_of(warmed.wanted.part, root.contents, catalog, root.recipe.origin)
        files = {**await self._published(root), **goal.files}
        warmed.files, warmed.bytes = len(files), sum(files.values())
        return _Plan(warmed, root, contents_of(root), files, goal.objects)

    async def _published(self, root: OpenRoot) -> Files:
        """Catalog, boot record and metadata image; they come while this looks for them."""
        assert root.recipe.thinfs is not None
        named = root.recipe.thinfs.root
        files = {(Kind.CATALOG, root.digest): counted(named.catalog.size)}
        if named.boot is not None and root.contents.boot is not None:
            files[Kind.BOOT, raw_digest(named.boot.digest)] = counted(named.boot.size)
        if named.metadata is None:
            return files
        digest, size = raw_digest(named.metadata.digest), named.metadata.size
        try:
            await self._metadata.file(digest, size, named.metadata.stored_size, root.sources)
        except (MissingError, IntegrityError) as error:
            log.info("the daemon is going to render a metadata image: %s", error)
        else:
            files[Kind.METADATA, digest] = counted(size)
        return files

    # Fetching

    async def _bring(self, plan: _Plan) -> None:
        cache = self._node.cache
        await self._fetch(plan)
        if plan.failures:
            raise plan.failures[0]
        await self._node.contents.drain()
        missing = await self._disk.run(partial(images.lacking, cache, plan.files))
        if missing:
            raise StoreError(
                f"{missing} of {len(plan.files)} files could not be kept in {cache.places.root}:"
                " warm again; thinfs -v warm says why"
            )
        await self._disk.run(partial(images.supersede, cache, plan.warmed.wanted))

    async def _fetch(self, plan: _Plan) -> None:
        send, receive = trio.open_memory_channel[bytes](0)
        async with trio.open_nursery() as nursery:
            async with receive:
                for _ in range(self._job.jobs):
                    nursery.start_soon(self._work, plan, receive.clone())
            async with send:
                await self._choose(plan, send)

    async def _choose(self, plan: _Plan, send: trio.MemorySendChannel[bytes]) -> None:
        """Hand on what is not here."""
        presence = self._node.contents.presence
        digests = list(plan.objects)
        try:
            for start in range(0, len(digests), LOOK_AT):
                some = digests[start : start + LOOK_AT]
                missing = await presence.lacking(plan.contents, some)
                self._here(plan, set(some) - set(missing))
                for digest in missing:
                    await send.send(digest)
        except trio.BrokenResourceError:  # all have given up
            return
        except ThinfsError as error:
            plan.failures.append(error)

    def _here(self, plan: _Plan, digests: Collection[bytes]) -> None:
        stored = sum(plan.objects[digest].stored_size for digest in digests)
        self._progress.advance(len(digests), stored)

    async def _work(self, plan: _Plan, receive: trio.MemoryReceiveChannel[bytes]) -> None:
        async with receive:
            async for digest in receive:
                try:
                    await self._node.contents.objects.ahead(plan.contents, digest, Priority.PROFILE)
                except ThinfsError as error:
                    log.debug("warming: %s", error)
                    plan.failures.append(error)
                    if len(plan.failures) >= MAX_FAILURES:
                        return
                else:
                    plan.warmed.fetched_objects += 1
                    plan.warmed.fetched_bytes += plan.objects[digest].stored_size
                    self._here(plan, [digest])
