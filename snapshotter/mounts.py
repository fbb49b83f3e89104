"""From a chain of snapshots to the mounts a client is told to make. Pure.

The shapes are those of containerd's overlayfs snapshotter; a thin root stands where the
directory of its layer would stand::

    no parent                  bind [rw|ro, rbind]  its own fs
    view of one ordinary       bind [ro, rbind]     the parent's fs
    view of one thin           bind [ro, rbind]     the root as a directory
    any other view             overlay              lowerdir
    active with parents        overlay              workdir, upperdir, lowerdir
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from snapshotter.model import Kind, Mount

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thinfs.control.values import Root


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


def mounts(
    layout: Layout,
    kind: Kind,
    snapshot_id: int,
    parents: Sequence[int],
    *,
    root: Root | None = None,
    options: Sequence[str] = (),
) -> tuple[Mount, ...]:
    """Tell how to mount an active or view snapshot.

    Args:
        layout: where snapshots are.
        kind: active or view.
        snapshot_id: of the snapshot itself.
        parents: ids below it, the nearest first.
        root: the thin root that stands for the last of ``parents``, if it is a thin layer.
        options: what this overlay gets on this machine, whatever its layers.
    """
    if not parents:
        return (_bind(str(layout.fs(snapshot_id)), writable=kind is Kind.ACTIVE),)
    lowers = [str(layout.fs(parent)) for parent in parents]
    if root is not None:
        lowers[-1] = root.lowerdir
    if kind is Kind.ACTIVE:
        own = (f"workdir={layout.work(snapshot_id)}", f"upperdir={layout.fs(snapshot_id)}")
        return (_overlay((*options, *own), lowers),)
    if len(parents) == 1:
        return (_bind(lowers[0] if root is None else root.directory, writable=False),)
    return (_overlay(options, lowers),)


def _bind(source: str, *, writable: bool) -> Mount:
    return Mount("bind", source, ("rw" if writable else "ro", "rbind"))


def _overlay(options: Sequence[str], lowers: Sequence[str]) -> Mount:
    return Mount("overlay", "overlay", (*options, f"lowerdir={':'.join(lowers)}"))
