"""Recognising the layer of a thin image: one file, ``thin.json``, and nothing else.

Only its outline is looked at. What a recipe means is the daemon's business, and the daemon
verifies all of it before it serves anything.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

RECIPE_NAME = "thin.json"
MAX_RECIPE_BYTES = 1 << 20


def recognise(fs: Path, name: str, *, is_base: bool) -> str | None:
    """Give the recipe when a directory is a thin image's layer, None when it is ordinary.

    A layer that has a ``thin.json`` and still is ordinary is logged as a warning with the
    reason: somebody may expect it to be lazy.

    Args:
        fs: the layer's files.
        name: of the snapshot, for the log.
        is_base: the snapshot has no parent.
    """
    path = fs / RECIPE_NAME
    if not os.path.lexists(path):
        return None
    try:
        return _read(fs, path, is_base=is_base)
    except ValueError as reason:
        log.warning("snapshot %s is not lazy, though it has a %s: %s", name, RECIPE_NAME, reason)
        return None


def _read(fs: Path, path: Path, *, is_base: bool) -> str:
    """Read a recipe, or raise ValueError with the reason why the layer is an ordinary one."""
    if not is_base:
        raise ValueError("it is stacked upon another snapshot")
    others = sorted({entry.name for entry in fs.iterdir()} - {RECIPE_NAME})
    if others:
        raise ValueError(f"the layer holds {others[0]!r} and {len(others) - 1} others besides it")
    text = _read_regular(path).decode("utf-8")
    _check_outline(text)
    return text


def _read_regular(path: Path) -> bytes:
    # A fifo must not block us and a link must not lead out of the layer.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is not a regular file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(MAX_RECIPE_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > MAX_RECIPE_BYTES:
        raise ValueError(f"it is larger than {MAX_RECIPE_BYTES} bytes")
    return data


def _check_outline(text: str) -> None:
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - the one way to say why not
    missing = sorted({"version", "layers"} - value.keys())
    if missing:
        raise ValueError(f"it has no {missing[0]!r}")
