"""From a chain of snapshots to the mounts a client is told to make. Pure.

The shapes are those of containerd's overlayfs snapshotter; a thin root stands where the
directory of its layer would stand::

    no parent                  bind [rw|ro, rbind]  its own fs
    view of one ordinary       bind [ro, rbind]     the parent's fs
    view of one thin           bind [ro, rbind]     the root as a directory
    any other view             overlay              lowerdir
    active with parents        overlay              workdir, upperdir, lowerdir

A native root stands in ``lowerdir`` as ``METADATA::CACHE::FUSE``, the form that overlayfs knows
for layers that hold nothing but bodies. In three cases it stands there as one plain directory
instead, at the price of one overlay upon another:

- containerd unpacks a layer upon it: for that it mounts nothing, but splits ``lowerdir`` at each
  colon and looks parents up in the pieces, an empty one being the root of the host;
- overlays get ``userxattr`` here, with which the kernel obeys no redirect;
- there are so many layers that the options exceed a page: containerd then mounts from the
  directory that all layers have in common, which must be the snapshotter's own. So the root is
  named by a symbolic link in there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from snapshotter.model import Kind, Mount

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thinfs.control.values import Root

MAX_OPTION_BYTES: Final = 4096 - 512
"""Options of a mount that are longer are shortened by containerd, which leaves the same margin."""

UNPACK_KEY: Final = "extract-"
"""How containerd's keys begin of snapshots into which it unpacks (rootfs.UnpackKeyFormat)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where snapshots are on disk.

    Attributes:
        directory: holds one directory per snapshot, named by its id.
    """

    directory: Path

    def home(self, snapshot_id: int) -> Path:
        """Give the directory with all that a snapshot has on disk."""
        return self.directory / str(snapshot_id)

    def fs(self, snapshot_id: int) -> Path:
        """Give a snapshot's own files: the upperdir, or one of the lowerdirs of others."""
        return self.home(snapshot_id) / "fs"

    def work(self, snapshot_id: int) -> Path:
        """Give overlayfs' workdir of an active snapshot."""
        return self.home(snapshot_id) / "work"

    def link(self, snapshot_id: int) -> Path:
        """Give the name of a thin root among snapshots: a symbolic link to its directory."""
        return self.home(snapshot_id) / "root"


def is_unpacking(key: str) -> bool:
    """Tell whether containerd unpacks into a snapshot; ``<namespace>/<n>/`` may be before its key.

    Those who use other keys unpack well too: only a directory that neither the layer names nor
    any below it has may get the attributes of one of the same name on the host.
    """
    return key.split("/", 2)[-1].startswith(UNPACK_KEY)


def mounts(
    layout: Layout,
    kind: Kind,
    snapshot_id: int,
    parents: Sequence[int],
    *,
    root: Root | None = None,
    options: Sequence[str] = (),
    unpacking: bool = False,
) -> tuple[Mount, ...]:
    """Tell how to mount an active or view snapshot.

    Args:
        layout: where snapshots are.
        kind: active or view.
        snapshot_id: of the snapshot itself.
        parents: ids below it, the nearest first.
        root: the thin root that stands for the last of ``parents``, if it is a thin layer.
        options: what this overlay gets on this machine, whatever its layers.
        unpacking: containerd is going to unpack a layer into it.

    Returns:
        One mount. Where :meth:`Layout.link` occurs in it, the caller makes that link.
    """
    if not parents:
        return (_bind(str(layout.fs(snapshot_id)), writable=kind is Kind.ACTIVE),)
    lowers = [str(layout.fs(parent)) for parent in parents]
    if kind is Kind.VIEW and len(parents) == 1:
        return (_bind(lowers[0] if root is None else root.directory, writable=False),)
    if kind is Kind.ACTIVE:
        own = (f"workdir={layout.work(snapshot_id)}", f"upperdir={layout.fs(snapshot_id)}")
        options = (*options, *own)
    if root is None:
        return (_overlay(options, lowers),)
    lowers[-1] = root.directory if unpacking or "userxattr" in options else root.lowerdir
    overlay = _overlay(options, lowers)
    if len(",".join(overlay.options)) > MAX_OPTION_BYTES:
        lowers[-1] = str(layout.link(snapshot_id))
        overlay = _overlay(options, lowers)
    return (overlay,)


def _bind(source: str, *, writable: bool) -> Mount:
    return Mount("bind", source, ("rw" if writable else "ro", "rbind"))


def _overlay(options: Sequence[str], lowers: Sequence[str]) -> Mount:
    return Mount("overlay", "overlay", (*options, f"lowerdir={':'.join(lowers)}"))
