"""Metadata images of roots: from the cache, from a repository whole or in pieces, or rendered here.

In pieces: the image is a file in the FUSE mount, and the kernel reads the blocks that it needs,
some hundred of thousands. What has come of it is kept; when all has, it is a file of this node.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from catalog.erofs import check_superblock, render
from catalog.erofs.head import HEAD_BYTES, check_head
from catalog.errors import CatalogError
from thinfs.errors import FormatError, StoreError, ThinfsError, TransportError
from thinfs.store.layout import raw_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from catalog.reader import CatalogReader
    from thinfs.oci.recipe import BlobRef, RecipeRoot
    from thinfs.roots.opening import OpenRoot
    from thinfs.store.source import Source

log = logging.getLogger(__name__)

FETCH_WITHIN_S: Final = 10.0
"""Longest wait for a published image: rendering one of 66 000 names takes half a second."""


SMALL_BYTES: Final = 256 << 10
"""Stored size up to which an image is fetched as one file: a tenth of a second at 20 Mbit/s."""


class Images(Protocol):
    """Verified metadata images on this node's disk; those in use are not evicted."""

    async def kept(self, digest: bytes, /) -> Path | None:
        """The file of an image that is here."""
        ...

    async def file(
        self, digest: bytes, size: int, stored_size: int, sources: Sequence[Source], /
    ) -> Path:
        """The file of an image; what is not here is fetched."""
        ...

    async def adopt(self, digest: bytes, made: Path, /) -> Path:
        """Keep an image that was rendered here; ``made`` may be moved."""
        ...

    async def pin(self, digest: bytes, /) -> None:
        """Keep an image once all its pieces are here."""
        ...

    async def release(self, digest: bytes, /) -> None:
        """The image may go when room is needed."""
        ...


class Pieces(Protocol):
    """Metadata images as files of the FUSE mount, which come piece by piece."""

    async def head(self, root: OpenRoot, length: int, /) -> bytes:
        """The first bytes of a root's image."""
        ...

    def path(self, root: OpenRoot, /) -> Path:
        """Its file; whoever opens it asks this process."""
        ...


@dataclass(frozen=True, slots=True)
class Image:
    """A metadata image, kept until it is released.

    Attributes:
        digest: SHA-256 of the file, 32 bytes.
        path: the file.
        in_pieces: whether it comes piece by piece.
    """

    digest: bytes
    path: Path
    in_pieces: bool = False


def comes_in_pieces(root: RecipeRoot) -> bool:
    """Whether a root's image is worth to be read in pieces."""
    small = root.metadata is None or root.metadata.stored_size <= SMALL_BYTES
    return root.boot is not None and not small


class MetadataImages:
    """Gets the metadata image of a root.

    Args:
        images: where they are kept, and fetched to.
        scratch: a directory on the same file system, for rendering.
        open_reader: opens a catalog's file.
        pieces: images that come in pieces; ``None``: the kernel cannot mount such.
    """

    def __init__(
        self,
        images: Images,
        scratch: Path,
        open_reader: Callable[[Path], CatalogReader],
        pieces: Pieces | None = None,
    ) -> None:
        self._pieces = pieces
        self._images = images
        self._scratch = scratch
        self._open_reader = open_reader

    async def get(self, root: OpenRoot, *, whole: bool = False) -> Image:
        """The image that the recipe names; rendered from the catalog when none can be had.

        Args:
            root: the root.
            whole: as a file of this node, and not in pieces.

        Raises:
            FormatError: the tree holds what no image can.
            StoreError: there is no room for it.
            ThinfsError: it would have to be rendered, and the catalog cannot be had either.
        """
        extension = root.recipe.thinfs
        named = extension.root.metadata if extension is not None else None
        if extension is None or named is None:
            log.info("root %s: its recipe names no metadata image: rendered here", root.id)
            return await self._rendered(root)
        try:
            if not whole and comes_in_pieces(extension.root):
                found = await self._in_pieces(raw_digest(named.digest), named.size, root)
                if found is not None:
                    return found
            return await self._fetched(named, root)
        except StoreError:
            raise
        except ThinfsError as error:
            log.info("root %s: its metadata image is rendered here: %s", root.id, error)
        return await self._rendered(root)

    async def whole(self, image: Image) -> Image | None:
        """The same image as a file of this node, once all of its pieces are here."""
        kept = await self._images.kept(image.digest)
        return None if kept is None else Image(image.digest, kept)

    async def release(self, image: Image) -> None:
        """Let an image be evicted."""
        await self._images.release(image.digest)

    async def _in_pieces(self, digest: bytes, size: int, root: OpenRoot) -> Image | None:
        """An image in pieces, unless it cannot be; the whole file if it is here."""
        if self._pieces is None or root.contents.metadata != digest:
            return None
        kept = await self._images.kept(digest)
        if kept is not None:
            return Image(digest, kept)
        try:
            check_head(await self._pieces.head(root, HEAD_BYTES), size)
        except CatalogError as error:
            raise FormatError(f"metadata image {digest.hex()}: {error}") from error
        await self._images.pin(digest)
        return Image(digest, self._pieces.path(root), in_pieces=True)

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
        catalog = await root.contents.catalog()
        draft = self._scratch / f"metadata-{root.id}"
        try:
            digest = await trio.to_thread.run_sync(partial(self._render, catalog.path, draft))
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
