"""An image of Redis, made of Debian packages as an image on a hub would be: in four layers.

1. the base system (debootstrap, minbase), 2. Redis and what it needs, with the database of
dpkg that says so, 3. the configuration, 4. documentation and lists removed again.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import image_cache, needs
from tests.support.image_cache import Layout, cached
from tests.support.layouts import make_layout
from tests.support.system_image import EPOCH_NS, debootstrap, layer_of, names_in, written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.tarwrite import LayerTar

# Installed with Redis, in the second layer; perl and wget make it as large as such images are.
ADDED = ("redis-server", "redis-tools", "ca-certificates", "perl", "procps", "wget")
ENTRYPOINT = b"""\
#!/bin/sh
# Options alone, or a configuration file, are meant for redis-server.
case "${1:-}" in
-* | *.conf) set -- redis-server "$@" ;;
esac
umask 0077
exec "$@"
"""
CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2025-01-01T00:00:00Z",
    "config": {
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["redis-server"],
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
        ],
        "User": "redis",
        "WorkingDir": "/data",
        "Volumes": {"/data": {}},
        "ExposedPorts": {"6379/tcp": {}},
    },
}
_SOURCES = tuple(
    Path(__file__).with_name(f"{name}.py")
    for name in ("redis_image", "system_image", "tarwrite", "layouts")
)


def redis_image() -> Layout:
    """The image; some 200 MB uncompressed. Its tag is ``redis``.

    Building takes about two minutes, most of it debootstrap's.
    Skips when it is not in the cache and cannot be built here.
    """
    if not list(image_cache.CACHE.glob("redis-*")):
        needs.root()
        needs.command("debootstrap")
    return cached("redis", _SOURCES, _build)


def _build(layout: Path, work: Path) -> None:
    system = work / "system"
    debootstrap(system, ADDED)
    ours = _package_files(system, _added_packages(system))
    names = names_in(system)
    layers = [
        layer_of(system, (name for name in names if name not in ours)),
        layer_of(system, (name for name in names if name in ours)),
        _configuration(system),
        _slimming(names),
    ]
    make_layout(layout, "redis", layers, CONFIG)
    shutil.rmtree(system)


def _added_packages(system: Path) -> set[str]:
    """What is installed beyond the base: not required, and not apt's."""
    status = (system / "var/lib/dpkg/status").read_text()
    base = {"apt", "debian-archive-keyring", "libapt-pkg6.0", "gpgv", "libstdc++6"}
    packages = set()
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line[:40])
        if fields and fields.get("Priority") in {"optional", "standard"}:
            packages.add(fields["Package"])
    return (packages | set(ADDED)) - base


def _package_files(system: Path, packages: set[str]) -> set[str]:
    """Names of the files of some packages, of dpkg's notes on them, and of its database."""
    files = {"var/lib/dpkg/status", "var/lib/dpkg/available"}
    info = system / "var/lib/dpkg/info"
    for note in info.iterdir():
        package = note.name.rpartition(".")[0].partition(":")[0]
        if package in packages:
            files.add(str(note.relative_to(system)))
            if note.suffix == ".list":
                files.update(_regular(system, note.read_text().splitlines()))
    return files


def _regular(system: Path, lines: Iterable[str]) -> set[str]:
    """Names from a package's list but for directories; /lib and the like are merged into usr."""
    found = set()
    for line in lines:
        path = system / line.lstrip("/")
        real = path.parent.resolve() / path.name
        if not real.is_dir() or real.is_symlink():
            found.add(str(real.relative_to(system)))
    return found


def _configuration(system: Path) -> bytes:
    """What a Dockerfile of Redis adds: an entry point and a folder for the data."""
    passwd = (system / "etc/passwd").read_text().splitlines()
    uid, gid = next(line.split(":")[2:4] for line in passwd if line.startswith("redis:"))

    def write(tar: LayerTar) -> None:
        tar.add(b"data", tarfile.DIRTYPE, uid=int(uid), gid=int(gid), mtime_ns=EPOCH_NS)
        tar.add(b"dev", tarfile.DIRTYPE, mtime_ns=EPOCH_NS)
        tar.add(b"proc", tarfile.DIRTYPE, mtime_ns=EPOCH_NS)
        tar.add(b"sys", tarfile.DIRTYPE, mtime_ns=EPOCH_NS)
        tar.add(
            b"usr/local/bin/docker-entrypoint.sh", data=ENTRYPOINT, mode=0o755, mtime_ns=EPOCH_NS
        )

    return written(write)


def _slimming(names: list[str]) -> bytes:
    """What "rm -rf" of manuals and lists in a last step leaves: whiteouts and an opaque folder."""
    manuals = [n for n in names if re.fullmatch("usr/share/man/[^/]+/", n)]

    def write(tar: LayerTar) -> None:
        for name in manuals:
            parent, _, last = name.rstrip("/").rpartition("/")
            tar.add(f"{parent}/.wh.{last}".encode())
        tar.add(b"var/lib/apt/lists", tarfile.DIRTYPE, mtime_ns=EPOCH_NS)
        tar.add(b"var/lib/apt/lists/.wh..wh..opq")

    return written(write)
