"""Telling our own files from edited ones, with nothing but the file itself: no I/O.

Each file that ``thinfs install`` makes begins with a line that holds a digest of the rest. While
the digest is right the file is ours: a new version replaces it and uninstalling removes it. Once
somebody has edited the file it is theirs, and stays.
"""

from __future__ import annotations

import enum
import hashlib
import re

_LINE = "# Written by thinfs install ({digest}). A file you edit is yours: it is kept as it is.\n"
_STAMP = re.compile(r"# Written by thinfs install \(([0-9a-f]{16})\)[^\n]*\n")


class Author(enum.Enum):
    """Whose a file is."""

    NOBODY = enum.auto()  # there is no such file
    INSTALLER = enum.auto()  # as some version of `thinfs install` wrote it
    USER = enum.auto()  # written or edited by somebody else


def stamped(body: str) -> bytes:
    """The file that carries ``body`` and says that it is ours."""
    return (_LINE.format(digest=_digest(body)) + body).encode()


def author_of(data: bytes | None) -> Author:
    """Whose the file with these bytes is; ``None`` for no file."""
    if data is None:
        return Author.NOBODY
    text = data.decode("utf-8", errors="replace")
    found = _STAMP.match(text)
    if found and found[1] == _digest(text[found.end() :]):
        return Author.INSTALLER
    return Author.USER


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
