"""The whole tree of an image, unpacked by tools that are not ours: what thin mounts must equal."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from typing import TYPE_CHECKING

from tests.support import needs
from tests.support.containerd import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.containerd import Containerd
    from tests.support.image_cache import Layout

TIMEOUT_S = 600
VIEW_ATTEMPTS = 5


@contextlib.contextmanager
def scratch_disk(folder: Path, size_bytes: int = 12 << 30) -> Iterator[Path]:
    """An ext4 file system of its own that takes xattrs of any size, while the block runs.

    Ordinary ext4 keeps all xattrs of an inode in one block of 4 KiB.

    Args:
        folder: made by :func:`tests.support.sweep.make_folder`; holds the sparse image.
        size_bytes: of the file system.
    """
    image, mountpoint = folder / "disk.ext4", folder / "disk"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    mkfs = needs.command("mkfs.ext4", "e2fsprogs")
    _run(mkfs, "-q", "-O", "ea_inode,^has_journal", "-E", "nodiscard", image)
    mountpoint.mkdir()
    _run("mount", "-o", "loop,acl,user_xattr", image, mountpoint)
    try:
        yield mountpoint
    finally:
        _run("umount", mountpoint)
        image.unlink()


def by_umoci(image: Layout, folder: Path) -> Path:
    """Unpack with umoci; gives the root.

    Args:
        image: an OCI layout.
        folder: for the unpacked image, must not exist.
    """
    umoci = needs.command("umoci")
    _run(umoci, "unpack", "--image", f"{image.directory}:{image.tag}", folder)
    return folder / "rootfs"


def import_image(containerd: Containerd, image: Layout, snapshotter: str) -> str:
    """Import an image into containerd and unpack it there; gives its name."""
    archive = containerd.folder / f"{image.tag}.tar"
    skopeo = needs.command("skopeo")
    _run(skopeo, "--insecure-policy", "copy", "-q", image.source, f"oci-archive:{archive}:full")
    name = f"docker.io/library/{image.tag}"
    containerd.ctr(
        *("images", "import", f"--base-name={name}", f"--snapshotter={snapshotter}", archive),
        timeout_s=TIMEOUT_S,
    )
    archive.unlink()
    return f"{name}:full"


@contextlib.contextmanager
def mounted(
    containerd: Containerd, image: str, mountpoint: Path, snapshotter: str, *, active: bool = False
) -> Iterator[Path]:
    """The root of an image in containerd, as that snapshotter gives it, while the block runs.

    ``ctr images mount`` of 1.6 ignores its ``--snapshotter``, so each step is taken here.

    Args:
        containerd: that has the image.
        image: its name.
        mountpoint: is made.
        snapshotter: name of it.
        active: as a container has it, writable; else a read-only view.
    """
    key = f"mounted-{snapshotter}-{mountpoint.name}"
    snapshots = ("snapshots", f"--snapshotter={snapshotter}")
    # Unpacks the image for this snapshotter and prepares a snapshot of the same name.
    containerd.ctr("containers", "create", f"--snapshotter={snapshotter}", image, key, "/none")
    parent = json.loads(containerd.ctr(*snapshots, "info", key))["Parent"]
    if not active:
        _pinned_view(containerd, snapshots, f"{key}-view", parent)
    mountpoint.mkdir(parents=True)
    line = containerd.ctr(*snapshots, "mounts", mountpoint, key if active else f"{key}-view")
    _run(*shlex.split(line))
    try:
        yield mountpoint
    finally:
        _run("umount", mountpoint)
        if not active:
            containerd.ctr(*snapshots, "remove", f"{key}-view")
        containerd.ctr("containers", "delete", key)


def _pinned_view(containerd: Containerd, snapshots: tuple[str, str], key: str, parent: str) -> None:
    """A view that no garbage collection takes, though no container has it.

    One may run between making the view and labelling it: then it is made again.
    """
    for remaining in reversed(range(VIEW_ATTEMPTS)):
        containerd.ctr(*snapshots, "view", key, parent)
        try:
            containerd.ctr(*snapshots, "label", key, "containerd.io/gc.root=now")
        except CommandError as error:
            if not remaining or "does not exist" not in str(error):
                raise
        else:
            return


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr.strip()}"
