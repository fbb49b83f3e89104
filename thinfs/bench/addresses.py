"""Which addresses are this machine's own loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def is_loopback(url: str) -> bool:
    """Whether an address, ``//host:port`` at least, is on this machine's loopback."""
    return urlsplit(url).hostname in _LOOPBACK


def loopback_ports(urls: Sequence[str]) -> tuple[int, ...]:
    """Ports of this machine's loopback among the addresses."""
    parts = [urlsplit(url) for url in urls if is_loopback(url)]
    return tuple(part.port or (443 if part.scheme == "https" else 80) for part in parts)
