"""The steps until a root is there, told to who keeps a trace of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


class Steps(Protocol):
    """Hears of steps; must not wait. Times are those of the event loop."""

    def begin(self, root_id: str, origin: str) -> None:
        """A root is being attached."""
        ...

    def step(self, root_id: str, what: str, name: str, began: float) -> None:
        """A step has ended now. ``what`` is ``attach`` or ``mount``; ``name`` says which one."""
        ...

    def end(self, root_id: str) -> None:
        """A root is detached."""
        ...


class NoSteps:
    """Hears of nothing."""

    def begin(self, root_id: str, origin: str) -> None:
        """Nothing is kept."""

    def step(self, root_id: str, what: str, name: str, began: float) -> None:
        """Nothing is kept."""

    def end(self, root_id: str) -> None:
        """Nothing is kept."""


@contextmanager
def timed(steps: Steps, root_id: str, what: str, name: str) -> Iterator[None]:
    """Tell of the block as a step, whether or not it ends well."""
    began = trio.current_time()
    try:
        yield
    finally:
        steps.step(root_id, what, name, began)
