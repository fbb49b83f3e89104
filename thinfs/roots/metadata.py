"""Metadata images of roots: from the cache, from a repository, or rendered here."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from catalog.erofs import check_superblock, render
from catalog.errors import CatalogError
from thinfs.errors import FormatError, StoreError, ThinfsError, TransportError
from thinfs.store.layout import raw_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from catalog.reader import CatalogReader
    from thinfs.oci.recipe import BlobRef
    from thinfs.roots.opening import OpenRoot
    from thinfs.store.source import Source

log = logging.getLogger(__name__)

FETCH_WITHIN_S: Final = 10.0
"""Longest wait for a published image: rendering one of 66 000 names takes half a second."""


class Images(Protocol):
    """Verified metadata images on this node's disk; those in use are not evicted."""

    async def file(
        self, digest: bytes, size: int, stored_size: int, sources: Sequence[Source], /
    ) -> Path:
        """The file of an image; what is not here is fetched."""
        ...

    async def adopt(self, digest: bytes, made: Path, /) -> Path:
        """Keep an image that was rendered here; ``made`` may be moved."""
        ...

    async def release(self, digest: bytes, /) -> None:
        """The image may go when room is needed."""
        ...


@dataclass(frozen=True, slots=True)
class Image:
    """A metadata image on this node's disk, kept until it is released.

    Attributes:
        digest: SHA-256 of the file, 32 bytes.
        path: the file.
    """

    digest: bytes
    path: Path


class MetadataImages:
    """Gets the metadata image of a root.

    Args:
        images: where they are kept, and fetched to.
        scratch: a directory on the same file system, for rendering.
        open_reader: opens a catalog's file.
    """

    def __init__(
        self, images: Images, scratch: Path, open_reader: Callable[[Path], CatalogReader]
    ) -> None:
        self._images = images
        self._scratch = scratch
        self._open_reader = open_reader

    async def get(self, root: OpenRoot) -> Image:
        """The image that the recipe names; rendered from the catalog when none can be had.

        Raises:
            FormatError: the tree holds what no image can.
            StoreError: there is no room for it.
        """
        extension = root.recipe.thinfs
        named = extension.root.metadata if extension is not None else None
        if named is not None:
            try:
                return await self._fetched(named, root)
            except StoreError:
                raise
            except ThinfsError as error:
                log.info("root %s: its metadata image is rendered here: %s", root.id, error)
        else:
            log.info("root %s: its recipe names no metadata image: rendered here", root.id)
        return await self._rendered(root)

    async def release(self, image: Image) -> None:
        """Let an image be evicted."""
        await self._images.release(image.digest)

    async def _fetched(self, named: BlobRef, root: OpenRoot) -> Image:
        digest = raw_digest(named.digest)
        with trio.move_on_after(FETCH_WITHIN_S) as patience:
            path = await self._images.file(digest, named.size, named.stored_size, root.sources)
        if patience.cancelled_caught:
            raise TransportError(f"it did not arrive within {FETCH_WITHIN_S:g} s")
        try:
            await trio.to_thread.run_sync(check_superblock, path)
        except CatalogError as error:
            await self._images.release(digest)
            raise FormatError(f"metadata image {digest.hex()}: {error}") from error
        return Image(digest, path)

    async def _rendered(self, root: OpenRoot) -> Image:
        draft = self._scratch / f"metadata-{root.id}"
        try:
            digest = await trio.to_thread.run_sync(partial(self._render, root.reader.path, draft))
            return Image(digest, await self._images.adopt(digest, draft))
        finally:
            await trio.to_thread.run_sync(partial(draft.unlink, missing_ok=True))

    def _render(self, catalog: Path, draft: Path) -> bytes:
        """In a thread, with a reader of its own."""
        try:
            with self._open_reader(catalog) as reader:
                return raw_digest(render(reader, draft).digest)
        except CatalogError as error:
            raise FormatError(f"no metadata image can be made: {error}") from error
        except OSError as error:
            raise StoreError(f"{draft}: {os.strerror(error.errno or 0)}") from error
