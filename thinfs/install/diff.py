"""A plan as people read it: a unified diff."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thinfs.install.plan import Plan, Step

NO_FILE = "/dev/null"


def unified(plan: Plan) -> Iterator[str]:
    """The lines of the whole diff, without line feeds."""
    for step in plan.steps:
        yield from _of_step(step)


def _of_step(step: Step) -> Iterator[str]:
    lines = difflib.unified_diff(
        _lines(step.before),
        _lines(step.after),
        NO_FILE if step.before is None else str(step.path),
        NO_FILE if step.after is None else str(step.path),
    )
    for line in lines:
        yield line.rstrip("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _lines(data: bytes | None) -> list[str]:
    return (data or b"").decode("utf-8", errors="backslashreplace").splitlines(keepends=True)
