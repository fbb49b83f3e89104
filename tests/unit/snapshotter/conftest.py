from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.snapshots import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, options=("index=off",), thin_options=("xino=on",))
    yield made
    made.close()
