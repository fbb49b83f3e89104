"""Asking the containerd that is installed: which version it is, and whether it takes a file."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

from thinfs.errors import UsageError
from thinfs.install.containerd import ADDRESS, PLUGIN, Version, parse_version

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_S = 30.0
"""How long one call of containerd may take."""

_LOG_MESSAGE = re.compile(r'msg="((?:[^"\\]|\\.)*)"')


def installed_version() -> Version | None:
    """The version of the ``containerd`` on PATH, ``None`` when there is none.

    Raises:
        UsageError: it does not say, or is too old.
    """
    if shutil.which("containerd") is None:
        return None
    ran = _containerd("--version")
    return parse_version(ran.stdout.rpartition("containerd ")[2])


def require_accepted(config: Path) -> None:
    """Have containerd read a configuration file with all that it imports.

    Raises:
        UsageError: it refuses, or does not see our plugin in it.
    """
    ran = _containerd("--config", str(config), "config", "dump")
    if ran.returncode != 0:
        raise UsageError(f"containerd refuses the new configuration: {_last_words(ran.stderr)}")
    if _address(ran.stdout) != ADDRESS:
        raise UsageError(
            f"containerd does not see the snapshotter `{PLUGIN}` in the new configuration; "
            "look for another file in `imports` that replaces it"
        )


def _containerd(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["containerd", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"containerd does not run: {error}") from error


def _address(dump: str) -> Any:
    try:
        plugins = tomllib.loads(dump).get("proxy_plugins", {})
        return plugins.get(PLUGIN, {}).get("address")
    except (tomllib.TOMLDecodeError, AttributeError):
        return None


def _last_words(stderr: str) -> str:
    lines = stderr.strip().splitlines() or ["it says nothing"]
    found = _LOG_MESSAGE.search(lines[-1])
    return found[1] if found else lines[-1].removeprefix("containerd: ")
