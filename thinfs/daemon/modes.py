"""Choosing how a node serves roots: what the configuration wants and what the kernel can do."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from catalog.reader import CatalogReader
from thinfs.cache.catalogs import CatalogStore
from thinfs.cache.places import Kind
from thinfs.daemon.node import contents_of
from thinfs.errors import FormatError, StoreError
from thinfs.fs.forest import CONTENTS, TREES
from thinfs.roots.kernel import Backing, usable_path
from thinfs.roots.metadata import MetadataImages
from thinfs.roots.places import (
    NATIVE_MODE,
    TREE_MODE,
    NativeLayers,
    NativePlaces,
    TreePlaces,
    sweep,
)
from thinfs.roots.probe import probe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thinfs.cache.contents import ContentStore
    from thinfs.daemon.node import Node
    from thinfs.roots.opening import OpenRoot
    from thinfs.roots.places import Places
    from thinfs.roots.probe import Ability

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """How roots are served.

    Attributes:
        mode: ``tree`` or ``native``.
        reason: why, for a person.
        places: gives roots their place.
        in_pieces: whether large metadata images are read in pieces.
    """

    mode: str
    reason: str
    places: Places
    in_pieces: bool = False


@dataclass(frozen=True, slots=True)
class ImagePieces:
    """Metadata images in the mount: see :class:`thinfs.roots.metadata.Pieces`."""

    store: ContentStore
    folder: Path

    async def head(self, root: OpenRoot, length: int, /) -> bytes:
        """The first bytes, read past the mount: nothing is cached in the kernel if they are bad."""
        number = root.contents.number(root.contents.metadata)
        if number is None:
            raise FormatError("there is no boot record")
        body = self.store.open(contents_of(root), number, told=False)
        try:
            return await body.read(0, length)
        finally:
            body.close()

    def path(self, root: OpenRoot, /) -> Path:
        """Its name among the contents."""
        name = root.contents.metadata.hex()
        return self.folder / name[:2] / name


def native_folder(mountpoint: Path) -> Path:
    """Where native roots are mounted: beside the FUSE mount."""
    return mountpoint.with_name(f"{mountpoint.name}.native")


async def choose(
    node: Node,
    root_mode: str,
    mountpoint: Path,
    ways: Sequence[Ability],
    *,
    inherited: bool = False,
    recording: bool = False,
) -> Choice:
    """Try out what this machine can do, as far as the configuration leaves a choice.

    Mounts that an earlier daemon left are detached, but those of an inherited mount.

    Args:
        node: its cache becomes a layer of native roots.
        root_mode: ``auto``, ``native`` or ``tree``.
        mountpoint: of the FUSE mount; native roots are mounted beside it.
        ways: how native roots may be served, the best one first.
        inherited: the FUSE mount was served by a worker before this one, so what stands on it
            lives, and may be served by that worker still.
        recording: native roots are without the cache, so that every read is seen.

    Raises:
        StoreError: ``native`` is demanded and not possible.
    """
    folder = native_folder(mountpoint)
    if not inherited:
        await trio.to_thread.run_sync(partial(sweep, folder))
    trees = TreePlaces(mountpoint / TREES)
    if root_mode == "tree":
        return Choice(TREE_MODE, 'root_mode = "tree" in the configuration', trees)
    try:
        ability = await trio.to_thread.run_sync(partial(_able, node, mountpoint, folder, ways))
    except StoreError as error:
        if root_mode == "native":
            raise StoreError(
                f'root_mode = "native", but roots cannot be served natively here: {error}'
            ) from error
        log.info("roots are served by FUSE alone: %s", error)
        return Choice(TREE_MODE, f"native roots are not possible here: {error}", trees)
    log.info("roots are served natively: %s", ability)
    cached = None if recording else node.cache.places.contents
    layers = NativeLayers(folder, cached, mountpoint / CONTENTS, ability, inherited)
    store = CatalogStore(node.cache, node.contents.disk, node.fetcher, Kind.METADATA, node.traces)
    in_pieces = ability.backing is Backing.FILE
    pieces = ImagePieces(node.contents, mountpoint / CONTENTS) if in_pieces else None
    images = MetadataImages(store, node.cache.scratch, CatalogReader.open, pieces)
    otherwise = None if root_mode == "native" else trees
    places = NativePlaces(layers, images, otherwise, node.traces)
    return Choice(NATIVE_MODE, f"this kernel can ({ability})", places, in_pieces)


def _able(node: Node, mountpoint: Path, folder: Path, ways: Sequence[Ability]) -> Ability:
    if os.geteuid() != 0:
        raise StoreError("only root can mount")
    if not node.cache.writable:
        raise StoreError("the cache cannot be written")
    for path in (node.cache.places.contents, mountpoint):
        if not usable_path(path):
            raise StoreError(f"{path}: overlayfs takes no path with , : \\ or quotes")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise StoreError(f"{error.filename}: {error.strerror}") from error
    return probe(node.cache.scratch, folder, ways)
