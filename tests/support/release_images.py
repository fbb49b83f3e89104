"""Releases of one distribution's image, of one layer each, for comparisons.

``point``: Debian as its current point release has it; ``updated``: the same system some updates
later (the updates of its security archive, with apt); ``next``: the next Debian.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.support import image_cache, needs
from tests.support.image_cache import Layout, cached
from tests.support.layouts import make_layout
from tests.support.system_image import MIRROR, SUITE, debootstrap, layer_of, names_in

RELEASES: Final = ("point", "updated", "next")
NEXT_SUITE: Final = "trixie"
PACKAGES: Final = ("ca-certificates", "curl", "perl", "python3")
SECURITY_MIRROR: Final = os.environ.get(
    "DEBIAN_SECURITY_MIRROR", "http://deb.debian.org/debian-security"
)
TIMEOUT_S: Final = 900
_CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2025-01-01T00:00:00Z",
    "config": {"Cmd": ["bash"]},
}
_SOURCES = tuple(
    Path(__file__).with_name(f"{name}.py")
    for name in ("release_images", "system_image", "tarwrite", "layouts")
)


def release_image(release: str) -> Layout:
    """One of ``RELEASES``; its tag is ``debian-`` and the release's name.

    Skips when it is not in the cache and cannot be built here.
    """
    if not list(image_cache.CACHE.glob(f"debian-{release}-*")):
        needs.root()
        needs.command("debootstrap")
    return cached(f"debian-{release}", _SOURCES, lambda layout, work: _build(layout, work, release))


def _build(layout: Path, work: Path, release: str) -> None:
    system = work / "system"
    if release == "next":
        _next(system)
    else:
        debootstrap(system, PACKAGES)
    if release == "updated":
        _upgrade(system)
    make_layout(layout, f"debian-{release}", [layer_of(system, names_in(system))], _CONFIG)
    shutil.rmtree(system)


def _next(system: Path) -> None:
    include = f"--include={','.join(PACKAGES)}"
    _run("debootstrap", "--variant=minbase", include, NEXT_SUITE, str(system), MIRROR)


def _upgrade(system: Path) -> None:
    """Install what has been published since, as a new build of an image would have it."""
    (system / "etc/apt/sources.list").write_text(
        f"deb {MIRROR} {SUITE} main\n"
        f"deb {MIRROR} {SUITE}-updates main\n"
        f"deb {SECURITY_MIRROR} {SUITE}-security main\n"
    )
    shutil.copy("/etc/resolv.conf", system / "etc/resolv.conf")
    shutil.copy("/etc/hosts", system / "etc/hosts")
    _inside(system, "apt-get", "-q", "update")
    _inside(system, "apt-get", "-qy", "dist-upgrade")
    _inside(system, "apt-get", "clean")
    for left in (system / "var/lib/apt/lists").glob("*_*"):
        left.unlink()


def _inside(system: Path, *command: str) -> None:
    _run("chroot", str(system), *command)


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-5:])
        needs.skip(f"needs Debian's mirrors; {' '.join(command)} failed: {tail}")
