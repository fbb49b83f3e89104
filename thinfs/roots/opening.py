"""From a recipe to an open catalog and the repositories its objects come from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from catalog.errors import CatalogError
from catalog.model import TreeKind
from thinfs.errors import FormatError, UsageError
from thinfs.store.allow import allowed_address
from thinfs.store.layout import raw_digest
from thinfs.store.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from catalog.reader import CatalogReader
    from thinfs.config import RepositoryConfig, SourcesConfig
    from thinfs.oci.recipe import BlobRef, Recipe, RecipeExtension
    from thinfs.store.source import Source

log = logging.getLogger(__name__)

ID_DIGITS: Final = 16
"""Hex digits of a catalog's digest that name its root in paths."""


class Catalogs(Protocol):
    """Verified catalogs on this node's disk; those in use are not evicted."""

    async def kept(self, digest: bytes, /) -> Path | None:
        """The file of a catalog that is here; it stays until :meth:`release`."""
        ...

    async def file(
        self, digest: bytes, size: int, stored_size: int, sources: Sequence[Source], /
    ) -> Path:
        """The same; what is not here is fetched."""
        ...

    async def release(self, digest: bytes, /) -> None:
        """The catalog may go when room is needed."""
        ...

    async def settled(self) -> None:
        """Wait until nobody needs a reader whose files are all closed."""
        ...


@dataclass(frozen=True, slots=True)
class OpenRoot:
    """A root that can be served.

    Attributes:
        id: names it in paths.
        digest: of its catalog, 32 bytes.
        recipe: what it was made from.
        reader: its catalog; closed by whoever has this value.
        sources: allowed repositories, in the recipe's order; not owned.
    """

    id: str
    digest: bytes
    recipe: Recipe
    reader: CatalogReader
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


class RootOpener:
    """Opens roots from the cache, or fetches what is missing.

    Args:
        catalogs: where catalogs are kept, and fetched to.
        pool: which repositories may be asked.
        open_reader: opens a catalog's file, read-only.
    """

    def __init__(
        self, catalogs: Catalogs, pool: SourcePool, open_reader: Callable[[Path], CatalogReader]
    ) -> None:
        self._catalogs = catalogs
        self._pool = pool
        self._open_reader = open_reader

    async def open(self, recipe: Recipe, *, cached_only: bool = False) -> OpenRoot | None:
        """Open the merged root of a recipe; its catalog is pinned until :meth:`close`.

        Args:
            recipe: names catalog and repositories.
            cached_only: do not fetch: ``None`` when the catalog is not on disk.

        Raises:
            UsageError: no repository of the recipe is allowed on this node.
            MissingError: no repository has the catalog.
            IntegrityError: the catalog is damaged wherever it is.
            TransportError: no repository could be read.
            FormatError: the recipe or the catalog is not what it should be.
        """
        extension = _extension(recipe)
        digest = catalog_digest(recipe)
        sources = self._pool.allowed(extension.repositories)
        path = await self._file(extension.root.catalog, digest, sources, cached_only=cached_only)
        if path is None:
            return None
        try:
            reader = self._read(path)
        except BaseException:
            await self._catalogs.release(digest)
            raise
        return OpenRoot(root_id(digest), digest, recipe, reader, sources)

    async def close(self, root: OpenRoot) -> None:
        """Close a root's catalog, whose files nobody reads any more, and let it be evicted."""
        await self._catalogs.settled()
        root.reader.close()
        await self._catalogs.release(root.digest)

    async def _file(
        self, catalog: BlobRef, digest: bytes, sources: Sequence[Source], *, cached_only: bool
    ) -> Path | None:
        if cached_only:
            return await self._catalogs.kept(digest)
        return await self._catalogs.file(digest, catalog.size, catalog.stored_size, sources)

    def _read(self, path: Path) -> CatalogReader:
        try:
            reader = self._open_reader(path)
        except CatalogError as error:
            raise FormatError(f"catalog {path.name}: {error}") from error
        if reader.kind is not TreeKind.ROOT:
            reader.close()
            raise FormatError(f"catalog {path.name} is of one layer, not of a merged root")
        return reader


def _extension(recipe: Recipe) -> RecipeExtension:
    if recipe.thinfs is None:
        raise FormatError(
            f"the recipe of {recipe.origin} names layers only and no merged root:"
            " convert the image again with thinfs convert"
        )
    return recipe.thinfs
