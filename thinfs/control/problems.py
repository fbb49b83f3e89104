"""Errors on their way through the control API: each comes back as the class it left as."""

from __future__ import annotations

from typing import Final

import msgspec

from thinfs.control.values import Problem
from thinfs.errors import (
    FormatError,
    IntegrityError,
    MissingError,
    StoreError,
    ThinfsError,
    TransportError,
    UsageError,
)

STATUS: Final[dict[type[ThinfsError], int]] = {
    UsageError: 400,
    FormatError: 400,
    MissingError: 404,
    IntegrityError: 502,
    TransportError: 502,
    StoreError: 500,
}
"""The HTTP status of each class in ``thinfs.errors``; all else is 500."""

_BY_NAME: Final = {kind.__name__: kind for kind in STATUS}


def problem_of(error: Exception) -> tuple[int, Problem]:
    """Status and body that tell a client of an error.

    A subclass that only the daemon knows travels as the nearest class that everybody knows.
    """
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind], Problem(kind.__name__, str(error))
    return 500, Problem(StoreError.__name__, f"the daemon failed: {error!r}; see its log")


def error_of(body: bytes) -> ThinfsError:
    """The error that an answer tells of."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return StoreError(f"the daemon answered with something else: {body[:200]!r}")
    return _BY_NAME.get(problem.error, StoreError)(problem.message)
