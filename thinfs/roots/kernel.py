"""Mounting metadata images and overlays with the kernel's own calls.

Everything raises :class:`~thinfs.errors.StoreError` with a message that names the step, for it
ends up in front of a person as the reason why this node cannot serve roots natively.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MOUNT_TIMEOUT_S: Final = 30.0

_RDONLY: Final = 1
_NOSUID: Final = 2
_NODEV: Final = 4
_NOEXEC: Final = 8
_DETACH: Final = 2
_UNSAFE: Final = ',:\\"\n'


class Backing(enum.StrEnum):
    """How a metadata image is mounted."""

    FILE = "file"  # the kernel reads the file itself
    LOOP = "loop"  # through a loop device


def usable_path(path: Path) -> bool:
    """Whether a path means itself among overlayfs' options."""
    return not any(character in _UNSAFE for character in str(path))


def mount_image(image: Path, at: Path, backing: Backing) -> None:
    """Mount a metadata image. Nobody runs or opens anything through this mount itself.

    Raises:
        StoreError: the kernel refuses.
    """
    if backing is Backing.LOOP:
        _mount_by_loop(image, at)
        return
    with _named("mounting a metadata image"):
        _mount(image, at, "erofs", _RDONLY | _NOSUID | _NODEV | _NOEXEC)


def mount_overlay(at: Path, options: Sequence[str], *, read_only: bool) -> None:
    """Mount an overlay.

    Raises:
        StoreError: the kernel refuses.
    """
    with _named("mounting an overlay with data-only layers"):
        _mount("overlay", at, "overlay", _RDONLY if read_only else 0, ",".join(options))


def unmount_all(at: Path) -> bool:
    """Detach everything that is mounted at exactly ``at``; whoever uses it keeps it.

    Returns:
        Whether anything was mounted there.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    found = False
    while libc.umount2(os.fsencode(at), _DETACH) == 0:
        found = True
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        raise StoreError(f"cannot unmount {at}: {os.strerror(ctypes.get_errno())}")
    return found


def _mount(source: Path | str, at: Path, kind: str, flags: int, data: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (os.fsencode(source), os.fsencode(at), kind.encode(), flags, os.fsencode(data))
    if libc.mount(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def _named(step: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{step}: {error.strerror}") from error


def _mount_by_loop(image: Path, at: Path) -> None:
    options = "ro,nosuid,nodev,noexec,loop"
    command = ["mount", "-t", "erofs", "-o", options, "--", str(image), str(at)]
    what = "mounting a metadata image through a loop device"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=MOUNT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreError(f"{what}: {error}") from error
    if done.returncode != 0:
        raise StoreError(f"{what}: {' '.join(done.stderr.split())}")
