"""What a transfer is asked for and answers with, and when it is too slow. Pure.

:mod:`thinfs.curl` carries it out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LENGTH_DIGITS: Final = 20

_STATUS_LINE = re.compile(rb"HTTP/[\d.]+ (\d{3}) ?([^\r\n]*)")


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom we trust and who we are; empty means the system's authorities, and nobody.

    Attributes:
        ca_file: certificates (PEM) of the authorities that servers are checked against.
        certificate: ours (PEM), for servers that ask for one.
        key: its key (PEM), when it is not in the same file.
    """

    ca_file: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How slow a server may be.

    Attributes:
        connect_s: longest time until there is a connection.
        silence_s: longest silence after that, and how long an answer may be slow.
        bytes_per_s: what is slower than this for ``silence_s`` is broken off.
    """

    connect_s: float
    silence_s: float
    bytes_per_s: float = 1024.0


@dataclass(frozen=True, slots=True)
class Get:
    """One request.

    Attributes:
        url: in normal form, ASCII.
        headers: lines ``Name: value``.
        max_bytes: most bytes of body that are taken.
        patience: when it is given up.
        proxy: ``http://[user:password@]host:port``; empty: none; ``None``: as the environment
            says (``http_proxy``, ``https_proxy``, ``no_proxy``).
    """

    url: str
    headers: tuple[str, ...]
    max_bytes: int
    patience: Patience
    proxy: str | None = None

    @property
    def shown(self) -> str:
        """What was asked for and through what, for messages."""
        return f"{self.url} through {without_password(self.proxy)}" if self.proxy else self.url


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says before the body.

    Attributes:
        status: HTTP's; 0: it said nothing.
        reason: the words behind it; empty in HTTP/2.
        headers: names in lower case.
        length: the announced length of the body; 0 when there is none, or a strange one.
    """

    status: int = 0
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    length: int = 0


def parse_head(lines: Sequence[bytes]) -> Answer:
    """Read the lines of an answer's head, as they came."""
    match = _STATUS_LINE.match(lines[0]) if lines else None
    if match is None:
        return Answer()
    headers = {}
    for line in lines[1:]:
        name, separator, value = line.decode("latin-1").partition(":")
        if separator:
            headers[name.strip().lower()] = value.strip()
    reason = match[2].decode("ascii", "replace").strip()
    return Answer(int(match[1]), reason, headers, _length(headers.get("content-length", "")))


def _length(text: str) -> int:
    plausible = len(text) < MAX_LENGTH_DIGITS and text.isascii() and text.isdecimal()
    return int(text) if plausible else 0


class Pace:
    """Whether an answer goes on fast enough; a window ends ``silence_s`` after its last bytes."""

    def __init__(self, patience: Patience, now: float) -> None:
        self._patience = patience
        self._bytes = 0
        self._last = now
        self.deadline = now + patience.connect_s + patience.silence_s

    def arrived(self, count: int, now: float) -> None:
        """``count`` bytes have come."""
        self._bytes += count
        self._last = now

    def too_slow(self, now: float) -> bool:
        """At the deadline: whether it is over. If not, there is a new deadline."""
        if self._bytes <= self._patience.bytes_per_s * self._patience.silence_s:
            return True
        self._bytes = 0
        self.deadline = max(self._last + self._patience.silence_s, now)
        return False


def without_password(proxy: str | None) -> str:
    """A proxy's address as it may appear in logs."""
    scheme, separator, rest = (proxy or "").partition("://")
    if not separator:
        scheme, rest = "", scheme
    return scheme + separator + rest.rpartition("@")[2]
