"""From a recipe to an open catalog and the repositories its objects come from."""

from __future__ import annotations

import logging
import math
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import trio

from catalog.errors import CatalogError
from catalog.model import TreeKind
from thinfs.errors import FormatError, StoreError, ThinfsError, TransportError, UsageError
from thinfs.fetch.backoff import FIRST_WAIT_S, wait_s
from thinfs.fetch.gate import Priority
from thinfs.roots.boot import BootContents
from thinfs.roots.contents import RootMap
from thinfs.roots.steps import NoSteps, timed
from thinfs.store.address import directory_address
from thinfs.store.allow import allowed_address
from thinfs.store.boot import parse_boot
from thinfs.store.layout import catalog_path, raw_digest
from thinfs.store.source import open_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from catalog.reader import CatalogReader
    from thinfs.config import RepositoryConfig, SourcesConfig
    from thinfs.oci.recipe import BlobRef, Recipe, RecipeExtension, RecipeRoot
    from thinfs.roots.steps import Steps
    from thinfs.store.source import Source

log = logging.getLogger(__name__)

ID_DIGITS: Final = 16
"""Hex digits of a catalog's digest that name its root in paths."""

REST_S: Final = 5.0
"""How long what nobody waits for lets a start by profile have link and processor for itself. With
1 s, a start of JupyterLab shared its two processors with a catalog of 4 MB and 183 pieces of
metadata that it never asked for."""

BOOT_WITHIN_S: Final = 2.0
"""Longest wait for the boot record of a root whose catalog is here."""


class Files(Protocol):
    """Verified files of one kind on this node's disk; those in use are not evicted."""

    async def kept(self, digest: bytes, /) -> Path | None:
        """A file that is here; it stays until :meth:`release`."""
        ...

    async def file(
        self,
        digest: bytes,
        size: int,
        stored_size: int,
        sources: Sequence[Source],
        priority: Priority = Priority.DEMAND,
        /,
    ) -> Path:
        """The same; what is not here is fetched."""
        ...

    def hurry(self, digest: bytes, /) -> None:
        """Somebody waits for a file that is on its way."""
        ...

    async def release(self, digest: bytes, /) -> None:
        """The file may go when room is needed."""
        ...


@dataclass(frozen=True, slots=True)
class OpenRoot:
    """A root that can be served.

    Attributes:
        id: names it in paths.
        digest: of its catalog, 32 bytes.
        recipe: what it was made from.
        contents: what is known of its contents, and its catalog when that is here.
        sources: allowed repositories, in the recipe's order; not owned.
    """

    id: str
    digest: bytes
    recipe: Recipe
    contents: RootMap
    sources: tuple[Source, ...]


def catalog_digest(recipe: Recipe) -> bytes:
    """SHA-256 of the merged root's catalog.

    Raises:
        FormatError: the recipe names no merged root: it was made by another converter.
    """
    return raw_digest(_extension(recipe).root.catalog.digest)


def root_id(digest: bytes) -> str:
    """What names a root with this catalog in paths."""
    return digest.hex()[:ID_DIGITS]


class SourcePool:
    """One source for each repository, shared by all roots. What is not allowed stays out.

    Args:
        sources: what is allowed, and how sources are asked.
        repository: this machine's own repository, always allowed.
    """

    def __init__(self, sources: SourcesConfig, repository: RepositoryConfig) -> None:
        self._config = sources
        self._repository = repository
        self._open: dict[str, Source] = {}

    def allowed(self, urls: Sequence[str]) -> tuple[Source, ...]:
        """Sources for those of the addresses that are allowed.

        Raises:
            UsageError: none is; the message names the line to add to the configuration.
        """
        found: list[Source] = []
        refusals: list[UsageError] = []
        for url in urls:
            try:
                address = allowed_address(url, self._config, self._repository)
            except UsageError as error:
                refusals.append(error)
            else:
                found.append(self._source(address.url))
        if not found and refusals:
            raise refusals[0]
        for refusal in refusals:
            log.info("left out: %s", refusal)
        return tuple(found)

    async def for_root(self, urls: Sequence[str], catalog: bytes) -> tuple[Source, ...]:
        """Sources for one root: this machine's own repository first if it has the root's catalog.

        An image that was loaded from a file names repositories that nobody can reach from here.

        Args:
            urls: what its recipe asks for.
            catalog: digest of its catalog.

        Raises:
            UsageError: none is allowed, and it is not here either.
        """
        here = Path(self._repository.path).absolute()
        file = here / catalog_path(catalog)
        if not await trio.to_thread.run_sync(file.is_file, abandon_on_cancel=True):
            return self.allowed(urls)
        own = self._source(directory_address(os.fsencode(here)).url)
        try:
            others = self.allowed(urls)
        except UsageError as refusal:
            log.info("left out: %s", refusal)
            others = ()
        return tuple(dict.fromkeys((own, *others)))

    def mirrors(self) -> tuple[Source, ...]:
        """Sources for the mirrors, which the configuration allows by naming them."""
        return tuple(self._source(url) for url in self._config.mirrors)

    async def aclose(self) -> None:
        """Close all sources."""
        while self._open:
            await self._open.popitem()[1].aclose()

    def _source(self, url: str) -> Source:
        if url not in self._open:
            self._open[url] = open_source(url, self._config)
        return self._open[url]


@dataclass(slots=True)
class _Coming:
    """A catalog on its way: ``ended`` is set when nobody brings it any more."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class RootOpener:
    """Opens roots from the cache, or fetches what is missing.

    A root with a boot record is open as soon as that is here; its catalog follows.

    Args:
        nursery: where catalogs are fetched that nobody waits for yet.
        catalogs: where catalogs are kept, and fetched to.
        boots: the same for boot records; ``None``: roots wait for their catalogs.
        pool: which repositories may be asked.
        open_reader: opens a catalog's file, read-only.
        settled: waits until nobody needs a catalog whose files are all closed.
        steps: hears how long opening takes.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        catalogs: Files,
        boots: Files | None,
        pool: SourcePool,
        *,
        open_reader: Callable[[Path], CatalogReader],
        settled: Callable[[], Awaitable[None]],
        steps: Steps | None = None,
    ) -> None:
        self._steps = steps or NoSteps()
        self._nursery = nursery
        self._catalogs = catalogs
        self._boots = boots
        self._pool = pool
        self._open_reader = open_reader
        self._settled = settled
        self._coming: dict[int, _Coming] = {}

    async def open(self, recipe: Recipe, *, cached_only: bool = False) -> OpenRoot | None:
        """Open the merged root of a recipe; what it needs stays here until :meth:`close`.

        Args:
            recipe: names catalog and repositories.
            cached_only: do not wait for the network: ``None`` when neither the catalog nor the
                boot record is on disk.

        Raises:
            UsageError: no repository of the recipe is allowed on this node.
            MissingError: no repository has the catalog.
            IntegrityError: the catalog is damaged wherever it is.
            TransportError: no repository could be read.
            FormatError: the recipe or the catalog is not what it should be.
        """
        extension = _extension(recipe)
        digest = catalog_digest(recipe)
        sources = await self._pool.for_root(extension.repositories, digest)
        here = await self._catalogs.kept(digest)
        boot: BootContents | None = None
        try:
            with timed(self._steps, root_id(digest), "attach", "boot record"):
                boot = await self._boot(extension.root, sources, here=here, cached_only=cached_only)
            if here is None and boot is None:
                if cached_only:
                    return None
                with timed(self._steps, root_id(digest), "attach", "catalog"):
                    here = await self._fetched(extension.root.catalog, sources, Priority.DEMAND)
            root = self._root(recipe, digest, sources, boot, here)
        except BaseException:
            await self._release(extension.root)
            raise
        if here is None:
            self._bring_later(root)
        return root

    async def close(self, root: OpenRoot) -> None:
        """Close a root's catalog, whose files nobody reads any more, and let it be evicted."""
        coming = self._coming.pop(id(root), None)
        if coming is not None:
            coming.scope.cancel()
            await coming.ended.wait()
        await self._settled()
        root.contents.close()
        await self._release(_extension(root.recipe).root)

    def _root(
        self,
        recipe: Recipe,
        digest: bytes,
        sources: tuple[Source, ...],
        boot: BootContents | None,
        catalog: Path | None,
    ) -> OpenRoot:
        reader = self._read(catalog) if catalog is not None else None
        return OpenRoot(root_id(digest), digest, recipe, RootMap(boot, reader), sources)

    async def _release(self, root: RecipeRoot) -> None:
        await self._catalogs.release(raw_digest(root.catalog.digest))
        if self._boots is not None and root.boot is not None:
            await self._boots.release(raw_digest(root.boot.digest))

    # Boot records

    async def _boot(
        self, root: RecipeRoot, sources: Sequence[Source], *, here: Path | None, cached_only: bool
    ) -> BootContents | None:
        """The boot record; ``None`` when there is none, or it cannot be had while ``here`` can."""
        if self._boots is None or root.boot is None or root.metadata is None:
            return None
        path = await self._boots.kept(raw_digest(root.boot.digest))
        if path is None and cached_only:
            return None
        try:
            if path is None:
                path = await self._boot_file(root.boot, sources, patient=here is None)
            return await trio.to_thread.run_sync(_read_boot, path, root.metadata)
        except StoreError:
            raise
        except ThinfsError as error:
            log.info("the boot record cannot be had, the catalog must do: %s", error)
            return None

    async def _boot_file(self, boot: BlobRef, sources: Sequence[Source], *, patient: bool) -> Path:
        assert self._boots is not None
        with trio.move_on_after(math.inf if patient else BOOT_WITHIN_S):
            return await self._boots.file(
                raw_digest(boot.digest), boot.size, boot.stored_size, sources, Priority.DEMAND
            )
        raise TransportError(f"it did not arrive within {BOOT_WITHIN_S:g} s")

    # Catalogs

    async def _fetched(
        self, catalog: BlobRef, sources: Sequence[Source], priority: Priority
    ) -> Path:
        digest = raw_digest(catalog.digest)
        return await self._catalogs.file(
            digest, catalog.size, catalog.stored_size, sources, priority
        )

    def _bring_later(self, root: OpenRoot) -> None:
        coming = self._coming[id(root)] = _Coming()
        self._nursery.start_soon(self._bring, root, coming)

    async def _bring(self, root: OpenRoot, coming: _Coming) -> None:
        """Fetch a root's catalog, again and again until it is here."""
        failures = 0
        try:
            with coming.scope:
                while not await self._attempt(root):
                    failures += 1
                    with trio.move_on_after(wait_s(failures, 1.0)):
                        await trio.sleep(FIRST_WAIT_S)
                        await root.contents.wanted.wait()
        finally:
            coming.ended.set()

    async def _attempt(self, root: OpenRoot) -> bool:
        """Get the catalog, urgently once somebody waits for it; says whether it is here."""
        # Without a profile nothing is known but the metadata: the first file waits for it.
        soon = Priority.BACKGROUND if root.contents.has_profile else Priority.DEMAND
        catalog = _extension(root.recipe).root.catalog
        if soon is Priority.BACKGROUND:
            with trio.move_on_after(REST_S):
                await root.contents.wanted.wait()
        try:
            async with self._hurried(root):
                path = await self._fetched(catalog, root.sources, soon)
            root.contents.learn(self._read(path))
        except ThinfsError as error:
            log.warning("root %s: its catalog cannot be had yet: %s", root.id, error)
            root.contents.fail(error)
            return False
        except Exception as error:
            # Other roots are served by the same process.
            log.exception("root %s: its catalog cannot be had", root.id)
            root.contents.fail(StoreError(f"its catalog cannot be had: {error!r}"))
            return False
        return True

    @asynccontextmanager
    async def _hurried(self, root: OpenRoot) -> AsyncIterator[None]:
        """Within the block a root's catalog becomes urgent when somebody waits for it."""
        scope = trio.CancelScope()
        self._nursery.start_soon(self._hurry, root, scope)
        try:
            yield
        finally:
            scope.cancel()

    async def _hurry(self, root: OpenRoot, scope: trio.CancelScope) -> None:
        with scope:
            await root.contents.wanted.wait()
            self._catalogs.hurry(root.digest)

    def _read(self, path: Path) -> CatalogReader:
        try:
            reader = self._open_reader(path)
        except CatalogError as error:
            raise FormatError(f"catalog {path.name}: {error}") from error
        if reader.kind is not TreeKind.ROOT:
            reader.close()
            raise FormatError(f"catalog {path.name} is of one layer, not of a merged root")
        return reader


def _read_boot(path: Path, metadata: BlobRef) -> BootContents:
    """Read a boot record, whose digest is verified, in a thread."""
    try:
        record = parse_boot(path.read_bytes(), f"boot record {path.name}")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    named = (raw_digest(metadata.digest).hex(), metadata.size)
    if (record.metadata.digest, record.metadata.size) != named:
        raise FormatError(f"boot record {path.name} is of another metadata image")
    return BootContents(record)


def _extension(recipe: Recipe) -> RecipeExtension:
    if recipe.thinfs is None:
        raise FormatError(
            f"the recipe of {recipe.origin} names layers only and no merged root:"
            " convert the image again with thinfs convert"
        )
    return recipe.thinfs
