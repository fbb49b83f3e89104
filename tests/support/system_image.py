"""Layers made of a Debian system in a directory, for the images that tests and benchmarks use."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import needs
from tests.support.tarwrite import LayerTar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SUITE = "bookworm"
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
DEBOOTSTRAP_TIMEOUT_S = 900
# Files that installation writes get this time, so that two builds differ as little as possible.
EPOCH_NS = 1_735_689_600 * 1_000_000_000
# Written anew at each installation, and of no use in an image.
_DROPPED = (
    "var/cache/apt/",
    "var/log/",
    "var/cache/ldconfig/",
    "debootstrap/",
    "dev/",
    "proc/",
    "sys/",
)


def debootstrap(system: Path, packages: Sequence[str]) -> None:
    """Install a minimal Debian with some packages; skips when there is no mirror."""
    done = subprocess.run(
        [
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(packages)}",
            SUITE,
            system,
            MIRROR,
        ],
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEBOOTSTRAP_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-5:])
        needs.skip(f"needs a Debian mirror; debootstrap from {MIRROR} failed: {tail}")


def names_in(system: Path) -> list[str]:
    """Names that belong into an image, parents first, in order; directories end in a slash."""
    found = []
    for parent, directories, files in os.walk(system):
        at = Path(parent).relative_to(system)
        found += [str(at / name) for name in directories + files]
    shown = sorted(f"{name}/" if _is_directory(system / name) else name for name in found)
    return [name for name in shown if not name.startswith(_DROPPED)]


def _is_directory(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def layer_of(system: Path, names: Iterable[str]) -> bytes:
    """The tar stream of some names of a tree."""
    kept = [name.rstrip("/") for name in names]
    return written(lambda tar: _copy(tar, system, kept))


def _copy(tar: LayerTar, system: Path, names: list[str]) -> None:
    first_names: dict[int, bytes] = {}
    for name in names:
        path = system / name
        status = path.lstat()
        kind, data, target = _content(path, status.st_mode)
        if kind == tarfile.REGTYPE and status.st_nlink > 1:
            first = first_names.setdefault(status.st_ino, os.fsencode(name))
            if first != os.fsencode(name):
                kind, data, target = tarfile.LNKTYPE, b"", first
        tar.add(
            os.fsencode(name),
            kind,
            data=data,
            target=target,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=min(status.st_mtime_ns, EPOCH_NS),
            xattrs={
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            },
        )


def _content(path: Path, mode: int) -> tuple[bytes, bytes, bytes]:
    """Type, body and link target of one file."""
    if stat.S_ISLNK(mode):
        return tarfile.SYMTYPE, b"", os.fsencode(path.readlink())
    if stat.S_ISDIR(mode):
        return tarfile.DIRTYPE, b"", b""
    return tarfile.REGTYPE, path.read_bytes(), b""


def written(write: Callable[[LayerTar], None]) -> bytes:
    """The tar stream that ``write`` fills."""
    stream = io.BytesIO()
    with LayerTar(stream) as tar:
        write(tar)
    return stream.getvalue()
