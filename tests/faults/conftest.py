"""Faults take long: they are run when they are asked for by name (``make faults``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sites import Site

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave this folder out unless it, or something in it, was named."""
    named = [Path(config.invocation_params.dir, each.split("::")[0]) for each in config.args]
    if any(path == HERE or HERE in path.parents for path in named):
        return None
    return True


@pytest.fixture(params=["tree", "native"])
def site(request: pytest.FixtureRequest, folder: Path) -> Site:
    """A node's place; nothing runs yet."""
    return Site(folder, daemon={"root_mode": request.param})
