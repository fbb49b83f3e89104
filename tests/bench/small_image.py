"""The least that can be pulled and run: what any start pays for its client and containerd."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import look_image
from tests.support.image_cache import Layout, cached
from tests.support.layouts import make_layout

if TYPE_CHECKING:
    from collections.abc import Iterable


def small_image() -> Layout:
    """One layer with one program, which needs nothing else. Its tag is ``small``."""
    return cached("small", tuple(_sources()), _build)


def _build(layout: Path, work: Path) -> None:
    program = look_image.compile_look(work)
    layer = look_image.layer(look_image.entry("look", 0o755), program=program)
    make_layout(layout, "small", [layer], look_image.CONFIG)


def _sources() -> Iterable[Path]:
    yield Path(__file__)
    yield Path(look_image.__file__).with_name("look.c")
