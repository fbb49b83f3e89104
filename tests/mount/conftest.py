"""A node of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.sites import Site

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root_mode(request: pytest.FixtureRequest) -> str:
    """How the site's daemon serves roots."""
    return str(getattr(request, "param", "auto"))


@pytest.fixture
def site(folder: Path, root_mode: str) -> Site:
    """An empty repository's place and a configuration; nothing runs yet."""
    return Site(folder, daemon={"root_mode": root_mode})
