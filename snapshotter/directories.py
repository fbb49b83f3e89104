"""What snapshots have on disk: making, measuring and deleting their directories."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snapshotter.model import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snapshotter.mounts import Layout

log = logging.getLogger(__name__)

FS_MODE = 0o755
WORK_MODE = 0o711
BLOCK_BYTES = 512
"""The unit of ``st_blocks``, whatever the file system's blocks are (stat(2))."""

INITIAL_UID_MAP = ["0", "0", "4294967295"]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a directory is: ids of user and group."""

    uid: int
    gid: int

    @classmethod
    def of(cls, path: Path) -> Owner:
        """Ask a directory.

        Raises:
            OSError: it does not answer.
        """
        status = path.stat()
        return cls(status.st_uid, status.st_gid)


def make(layout: Layout, snapshot_id: int, *, writable: bool, owner: Owner | None) -> None:
    """Make the directories of a new snapshot.

    Args:
        layout: where snapshots are.
        snapshot_id: a new one.
        writable: give it a work directory too.
        owner: whose its ``fs`` is; None: the server's own.
    """
    layout.home(snapshot_id).mkdir(mode=0o700)
    fs = layout.fs(snapshot_id)
    _make_with_mode(fs, FS_MODE)
    if owner is not None:
        os.chown(fs, owner.uid, owner.gid)
    if writable:
        _make_with_mode(layout.work(snapshot_id), WORK_MODE)


def link(path: Path, target: str) -> None:
    """Make a symbolic link, in place of one that points elsewhere."""
    if not path.is_symlink() or os.readlink(path) != target:  # noqa: PTH115 - the text as it is
        draft = path.with_name(f"{path.name}.{threading.get_native_id()}")
        draft.symlink_to(target)
        draft.replace(path)


def delete(path: Path) -> bool:
    """Delete a directory and all in it; say whether it is gone.

    What cannot be deleted now (still mounted, read-only disk) is logged and left for later.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        log.warning("cannot delete %s, will try again at the next cleanup: %s", path, error)
        return False
    return True


def present(layout: Layout) -> list[str]:
    """Give the names of all directories that are there, whether snapshots have them or not."""
    return sorted(path.name for path in layout.directory.iterdir())


def usage(path: Path) -> Usage:
    """Measure a directory tree, itself included; a file with many links counts once.

    The tree may change meanwhile: what disappears is not counted.
    """
    blocks: dict[tuple[int, int], int] = {}
    for status in _statuses(path):
        blocks[status.st_dev, status.st_ino] = status.st_blocks
    return Usage(sum(blocks.values()) * BLOCK_BYTES, len(blocks))


def overlay_options(
    modules: Path = Path("/sys/module"), uid_map: Path = Path("/proc/self/uid_map")
) -> tuple[str, ...]:
    """Give the options that every overlay needs on this machine.

    ``userxattr`` in a user namespace, where overlayfs may not write ``trusted.*`` xattrs;
    ``index=off`` where the kernel knows the parameter, because an index would tie an upperdir
    to one order of lowerdirs.
    """
    options = []
    if uid_map.read_text().split() != INITIAL_UID_MAP:
        options.append("userxattr")
    if (modules / "overlay/parameters/index").exists():
        options.append("index=off")
    return tuple(options)


def thin_overlay_options(modules: Path = Path("/sys/module")) -> tuple[str, ...]:
    """Give the options that an overlay upon a thin root needs besides.

    Its lower and upper directories are on different file systems. Without ``xino=on`` (where the
    kernel knows it) files would then have another ``st_dev`` than the directory they are in,
    and ``tar --one-file-system``, ``rsync -x`` and ``du -x`` would leave them out.
    """
    has_xino = (modules / "overlay/parameters/xino_auto").exists()
    return ("xino=on",) if has_xino else ()


def _make_with_mode(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)  # mkdir's mode is subject to the umask


def _statuses(path: Path) -> Iterator[os.stat_result]:
    pending = [path]
    while pending:
        directory = pending.pop()
        try:
            yield directory.lstat()
            entries = list(os.scandir(directory))
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
                continue
            try:
                yield entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
