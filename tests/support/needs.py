"""What a test needs of the machine, and skips that say exactly what is missing.

In continuous integration (``CI=true``, or ``--no-skips``) a skip is a failure, unless it was
made by :func:`impossible`: what ``make setup`` can install must not go untested there.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

IMPOSSIBLE = "impossible on this machine: "
# Where Debian keeps the commands of administrators; PATH of an ordinary user lacks them.
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


class MissingToolError(RuntimeError):
    """What a skip is outside of pytest, as in ``make demo``."""


def skip(reason: str) -> NoReturn:
    """Skip the test that runs; the reason says how to make it run."""
    if "pytest" not in sys.modules:  # the demo's environment has none
        raise MissingToolError(reason)
    import pytest  # noqa: PLC0415 - only where there is one

    pytest.skip(reason)


def impossible(reason: str) -> NoReturn:
    """Skip a test that no setup can make possible here, such as one for a newer kernel."""
    skip(IMPOSSIBLE + reason)


def root() -> None:
    """Skip unless this process is root."""
    if os.geteuid() != 0:
        skip("needs root: run it as root or with sudo")


def command(name: str, package: str | None = None) -> str:
    """Path of a command; skips when it is not installed.

    Args:
        name: of the command.
        package: Debian package that brings it, when it is not called the same.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")
    if path is None:
        skip(f"needs the command {name}: apt-get install {package or name}")
    return path


def fuse() -> None:
    """Skip unless FUSE file systems can be mounted."""
    root()
    if not Path("/dev/fuse").exists():
        skip("needs /dev/fuse: modprobe fuse")


def containerd() -> None:
    """Skip unless containers can be run."""
    root()
    for name in ("containerd", "ctr"):
        command(name, "containerd")
    command("runc")


def nerdctl() -> str:
    """Path of nerdctl; skips when it was not built."""
    built = Path(__file__).parents[2] / ".cache/bin/nerdctl"
    path = shutil.which("nerdctl") or (str(built) if built.exists() else None)
    if path is None:
        skip("needs nerdctl: .ci/nerdctl builds it")
    return path
