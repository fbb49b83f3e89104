"""``thinfs`` run as a user runs it, and ``thinfs convert`` with what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def thinfs(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a verb; asserts its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "thinfs.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == expect, done.stderr
    return done


def convert(repository: Path, image: str, *options: str | Path) -> dict[str, Any]:
    """Convert into a repository, delivered nowhere; the outcome."""
    done = thinfs("convert", "--no-containerd", "--json", "--repo", repository, *options, image)
    values: dict[str, Any] = json.loads(done.stdout)
    return values
