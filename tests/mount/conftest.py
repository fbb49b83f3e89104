"""A node of the test's own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.sites import Site

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root_mode(request: pytest.FixtureRequest) -> str:
    """How the site's daemon serves roots; ``nested``: natively, as older kernels need it."""
    return str(getattr(request, "param", "auto"))


@pytest.fixture
def site(folder: Path, root_mode: str) -> Site:
    """An empty repository's place and a configuration; nothing runs yet."""
    if root_mode != "nested":
        return Site(folder, daemon={"root_mode": root_mode})
    site = Site(folder, daemon={"root_mode": "native"})
    site.daemon_command = [sys.executable, "-m", "tests.support.nested_daemon", str(site.config)]
    return site
