"""What happens to contents and objects, told to who keeps a trace of it."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Hears of events; must be quick and must not wait. Times are those of the event loop."""

    def read(self, digest: bytes, offset: int, length: int, began: float, *, waited: bool) -> None:
        """A range of a content was answered now; ``waited`` for a fetch or not."""
        ...

    def fetched(self, name: bytes | str, stored: int, began: float, *, demanded: bool) -> None:
        """An object (by digest) or a published file (by path) has come now.

        ``stored`` are its bytes in the repository; ``demanded``: somebody waited for it.
        """
        ...


class Nobody:
    """Hears of nothing."""

    def read(self, digest: bytes, offset: int, length: int, began: float, *, waited: bool) -> None:
        """Nothing is kept."""

    def fetched(self, name: bytes | str, stored: int, began: float, *, demanded: bool) -> None:
        """Nothing is kept."""
