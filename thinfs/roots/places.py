"""Where a root's files are for others to mount: in the FUSE mount's trees, or natively."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from thinfs.errors import StoreError, ThinfsError
from thinfs.roots.held import HeldFiles
from thinfs.roots.kernel import mount_image, mount_overlay, unmount_all
from thinfs.roots.layers import Layers, lowerdir, read_only_options, xino
from thinfs.roots.probe import SCRATCH_PREFIX
from thinfs.roots.steps import NoSteps, timed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from thinfs.roots.metadata import Image, MetadataImages
    from thinfs.roots.opening import OpenRoot
    from thinfs.roots.probe import Ability
    from thinfs.roots.steps import Steps

log = logging.getLogger(__name__)

TREE_MODE: Final = "tree"
NATIVE_MODE: Final = "native"

METADATA, LOWER, WHOLE = "m", "l", "d"
"""Mount points of one native root: its metadata image; if nested, what containers' overlays have
below them; the root as one directory. Short, for they stand in the options of every mount."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a root is; see :class:`thinfs.control.values.Root`.

    Attributes:
        mode: ``tree`` or ``native``.
        lowerdir: what goes behind ``lowerdir=``.
        directory: the root as one directory.
    """

    mode: str
    lowerdir: str
    directory: str


class Places(Protocol):
    """Gives roots their place once the mount is served."""

    async def place(self, root: OpenRoot, /) -> Place:
        """Make a root's place; called again when it has one and one more holder comes."""
        ...

    async def remove(self, root: OpenRoot, /) -> None:
        """Take it away; who uses it keeps it. Nothing happens when it has none."""
        ...


class TreePlaces:
    """Roots are directories of the FUSE mount.

    Args:
        trees: holds one directory for each root that is shown.
    """

    def __init__(self, trees: Path) -> None:
        self._trees = trees

    async def place(self, root: OpenRoot, /) -> Place:
        """Tell where the root is; it is there as soon as its catalog is.

        Raises:
            ThinfsError: the catalog cannot be had.
        """
        await root.contents.catalog()
        directory = str(self._trees / root.id)
        return Place(TREE_MODE, directory, directory)

    async def remove(self, root: OpenRoot, /) -> None:
        """Nothing was made."""


class NativeMounts(Protocol):
    """Mounts of native roots; all may wait for the FUSE mount, so call them in a thread."""

    def mount(self, root_id: str, image: Path, /) -> Place:
        """Mount a root."""
        ...

    def renew(self, root_id: str, /, image: Path | None = None) -> Place:
        """One more holder comes; given an image, it and those after it get mounts of that."""
        ...

    def unmount(self, root_id: str, /) -> None:
        """Detach a root's mounts."""
        ...


@dataclass(frozen=True, slots=True)
class NativeLayers:
    """Real :class:`NativeMounts`, and what all of a node's share.

    Attributes:
        folder: holds the mount points of each root.
        cache: contents that are here; ``None``: all are read through the FUSE mount.
        fuse: contents that can be had.
        ability: what this kernel can do.
        inherited: mounts that are there stand on this very FUSE mount and are alive.
        held: metadata images in memory.
    """

    folder: Path
    cache: Path | None
    fuse: Path
    ability: Ability
    inherited: bool = False
    held: HeldFiles = field(default_factory=HeldFiles)

    def mount(self, root_id: str, image: Path) -> Place:
        """Mount a root; may wait for the FUSE mount, so call it in a thread.

        Raises:
            StoreError: the kernel refuses; nothing is left mounted.
        """
        home = self.folder / root_id
        if self.inherited and self._is_mounted(home):
            log.info("root %s is mounted already", root_id)
            self._hold(root_id, image)
            return self._place(home)
        self.unmount(root_id)
        self._hold(root_id, image)
        try:
            home.mkdir(parents=True)
            return self._mount(home, image)
        except OSError as error:
            raise StoreError(f"{error.filename or home}: {error.strerror}") from error
        except StoreError:
            self.unmount(root_id)
            raise

    def renew(self, root_id: str, image: Path | None = None) -> Place:
        """Let the next container see what is in the cache by now; the others keep what they have.

        A file that was read from FUSE once stays with FUSE as long as the kernel has its inode.
        Each container has an overlay of its own and so inodes of its own, but a nested root's
        are all containers' that use the same mount.

        A new image is mounted over the former one: there is no moment in which somebody who has
        just been told where the root is would not find it.

        Raises:
            StoreError: the kernel refuses.
        """
        home = self.folder / root_id
        if image is not None:
            self._hold(root_id, image)
            self._mount_root(home, image)
        if self.ability.layers is Layers.NESTED:
            unmount_all(home / LOWER)
            self._mount_lower(home)
        return self._place(home)

    def unmount(self, root_id: str) -> None:
        """Detach a root's mounts; whoever uses them keeps them."""
        self.held.let_go(root_id)
        clear(self.folder / root_id, (WHOLE, LOWER, METADATA))

    def _hold(self, root_id: str, image: Path) -> None:
        if not image.is_relative_to(self.fuse):  # what comes in pieces is not here to be held
            self.held.hold(root_id, image)

    def _is_mounted(self, home: Path) -> bool:
        """Whether a worker before this one has mounted all of a root, and not unmounted it."""
        nested = self.ability.layers is Layers.NESTED
        names = (METADATA, WHOLE, LOWER) if nested else (METADATA, WHOLE)
        # An overlay's own root is looked at: that asks nothing of the layers below.
        return all(os.path.ismount(home / name) for name in names)

    def _mount(self, home: Path, image: Path) -> Place:
        for name in (METADATA, WHOLE):
            (home / name).mkdir()
        self._mount_root(home, image)
        if self.ability.layers is Layers.NESTED:
            (home / LOWER).mkdir()
            self._mount_lower(home)
        return self._place(home)

    def _mount_root(self, home: Path, image: Path) -> None:
        mount_image(image, home / METADATA, self.ability.backing)
        options = read_only_options(self._lowerdir(home), self.ability.layers)
        mount_overlay(home / WHOLE, [*options, *xino("on")], read_only=True)

    def _mount_lower(self, home: Path) -> None:
        options = read_only_options(self._lowerdir(home), self.ability.layers)
        mount_overlay(home / LOWER, [*options, *xino("off")], read_only=True)

    def _lowerdir(self, home: Path) -> str:
        data = (self.fuse,) if self.cache is None else (self.cache, self.fuse)
        return lowerdir(home / METADATA, *data)

    def _place(self, home: Path) -> Place:
        nested = self.ability.layers is Layers.NESTED
        lower = str(home / LOWER) if nested else self._lowerdir(home)
        return Place(NATIVE_MODE, lower, str(home / WHOLE))


def sweep(folder: Path, keep: Collection[str] = ()) -> None:
    """Detach what an earlier daemon has left mounted below the folder of native roots.

    Containers keep what they have.

    Args:
        folder: of :class:`NativeLayers`.
        keep: roots that are left alone.
    """
    if folder.is_dir():
        for home in [home for home in folder.iterdir() if home.name not in keep]:
            clear(home, sorted((path.name for path in home.iterdir()), reverse=True))
            if home.name.startswith(SCRATCH_PREFIX):
                shutil.rmtree(home, ignore_errors=True)


def clear(home: Path, names: Sequence[str]) -> None:
    """Detach what is mounted at names of a folder, and remove the folder if that is all of it."""
    for name in names:
        unmount_all(home / name)
        with suppress(OSError):
            (home / name).rmdir()
    with suppress(OSError):
        home.rmdir()


class NativePlaces:
    """Roots are mounts of metadata images over contents.

    Args:
        mounts: makes them.
        images: gets metadata images.
        otherwise: places for roots that the kernel does not take natively; ``None``: refuse them.
        steps: hears how long mounting takes.
    """

    def __init__(
        self,
        mounts: NativeMounts,
        images: MetadataImages,
        otherwise: Places | None,
        steps: Steps | None = None,
    ) -> None:
        self._steps = steps or NoSteps()
        self._mounts = mounts
        self._images = images
        self._otherwise = otherwise
        self._used: dict[str, Image] = {}
        self._refused: set[str] = set()

    async def place(self, root: OpenRoot, /) -> Place:
        """Mount a root natively, or tell where else it is.

        Raises:
            ThinfsError: it cannot be mounted natively, and there is no other place.
        """
        if root.id in self._used:
            return await self._renew(root.id)
        if root.id in self._refused and self._otherwise is not None:
            return await self._otherwise.place(root)
        try:
            return await self._place(root)
        except ThinfsError as error:
            if self._otherwise is None:
                raise
            self._refused.add(root.id)
            log.warning("root %s is served by FUSE alone: %s", root.id, error)
            return await self._otherwise.place(root)

    async def remove(self, root: OpenRoot, /) -> None:
        """Unmount a root."""
        self._refused.discard(root.id)
        image = self._used.pop(root.id, None)
        if image is not None:
            await self._unmount(root.id)
            await self._images.release(image)

    async def _renew(self, root_id: str) -> Place:
        used = self._used[root_id]
        whole = await self._images.whole(used) if used.in_pieces else None
        path = None if whole is None else whole.path
        place = await trio.to_thread.run_sync(partial(self._mounts.renew, root_id, path))
        self._used[root_id] = whole or used
        return place

    async def _place(self, root: OpenRoot) -> Place:
        with timed(self._steps, root.id, "mount", "metadata image"):
            image = await self._images.get(root)
        try:
            return await self._mounted(root, image)
        except StoreError as error:
            if not image.in_pieces:
                raise
            log.info("root %s: all of its metadata image is fetched: %s", root.id, error)
        return await self._mounted(root, await self._images.get(root, whole=True))

    async def _mounted(self, root: OpenRoot, image: Image) -> Place:
        try:
            with timed(self._steps, root.id, "mount", "mounting"):
                mount = partial(self._mounts.mount, root.id, image.path)
                place = await trio.to_thread.run_sync(mount)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._images.release(image)
            raise
        self._used[root.id] = image
        return place

    async def _unmount(self, root_id: str) -> None:
        try:
            await trio.to_thread.run_sync(partial(self._mounts.unmount, root_id))
        except StoreError as error:
            log.warning("root %s stays mounted: %s", root_id, error)
