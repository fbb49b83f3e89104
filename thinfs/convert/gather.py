"""Small bodies on their way to bundles: those of one directory together. Pure.

An archive lists a directory's files and subdirectories by name, so what is below them comes in
between: the 170 modules of Python's own directory lay in 15 bundles with those of its packages.
Bodies are therefore held until the archive has left their directory, and then go on as one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

HELD_BYTES: Final = 16 << 20
"""Most bytes that are held; when there are more, the directory with the most goes on."""


@dataclass(slots=True)
class _Held:
    """Bodies of one directory: (digest, body) in their order."""

    path: bytes
    size: int = 0
    bodies: deque[tuple[bytes, bytes]] = field(default_factory=deque)


class Gathering:
    """Holds the small bodies of the directories that an archive is in.

    Args:
        most: bytes that are held.
    """

    def __init__(self, most: int = HELD_BYTES) -> None:
        self._most = most
        self._size = 0
        self._stack: list[_Held] = []

    def add(self, directory: bytes, digest: bytes, body: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take a body; gives those that need not wait any longer, by directory.

        Args:
            directory: path of the one that the file is in.
            digest: names the body.
            body: its bytes.
        """
        yield from self._leave(directory)
        if not self._stack or self._stack[-1].path != directory:
            self._stack.append(_Held(directory))
        held = self._stack[-1]
        held.bodies.append((digest, body))
        held.size += len(body)
        self._size += len(body)
        while self._size > self._most:
            yield from self._give(max(self._stack, key=lambda each: each.size))

    def finish(self) -> Iterator[tuple[bytes, bytes]]:
        """Give what is left, innermost directories first."""
        while self._stack:
            yield from self._give(self._stack.pop())

    def _leave(self, directory: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Give the bodies of directories that neither are this one nor hold it."""
        while self._stack and not _holds(self._stack[-1].path, directory):
            yield from self._give(self._stack.pop())

    def _give(self, held: _Held) -> Iterator[tuple[bytes, bytes]]:
        self._size -= held.size
        held.size = 0
        while held.bodies:
            yield held.bodies.popleft()


def _holds(outer: bytes, inner: bytes) -> bool:
    return not outer or outer == inner or inner.startswith(outer + b"/")
