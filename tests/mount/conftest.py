"""A node of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.sites import Site

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def site(folder: Path) -> Site:
    """An empty repository's place and a configuration; nothing runs yet."""
    return Site(folder)
