"""Addresses of repositories, taken apart so strictly that nobody can read them in two ways.

An address decides whom this node contacts. What two parsers could understand differently
(user names, backslashes, escaped slashes, dot segments, control characters) is refused rather
than interpreted, and everybody behind this door uses the parts, never the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from thinfs.errors import UsageError

MAX_ADDRESS_CHARACTERS: Final = 4096
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_PLAIN = re.compile(r"[!-~]+\Z")  # visible ASCII: no blanks, controls or look-alike letters
_HOST = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9_])?\Z|[0-9a-f:.]*:[0-9a-f:.]*\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """A repository's place, in normal form.

    Attributes:
        scheme: ``http``, ``https`` or ``file``.
        host: lower case, IPv6 without brackets; empty for ``file``.
        port: always explicit; 0 for ``file``.
        parts: components of the path, unescaped; none is empty, ``.`` or ``..``.
    """

    scheme: str
    host: str
    port: int
    parts: tuple[bytes, ...]

    @property
    def path(self) -> bytes:
        """The path with its leading slash, unescaped, without a trailing one (but ``/``)."""
        return b"/" + b"/".join(self.parts)

    @property
    def url(self) -> str:
        """The address as a URL in normal form, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if DEFAULT_PORTS.get(self.scheme, 0) == self.port else f":{self.port}"
        path = "".join(f"/{quote(part)}" for part in self.parts)
        return f"{self.scheme}://{host}{port}{path}"

    def holds(self, other: Address) -> bool:
        """Whether ``other`` is this place or one below it, by whole path components."""
        same_place = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        return same_place and other.parts[: len(self.parts)] == self.parts


def parse_address(url: str) -> Address:
    """Take a repository's URL apart.

    Raises:
        UsageError: it is no ``http:``, ``https:`` or ``file:`` URL, or it holds anything that
            could be read in two ways.
    """
    if len(url) > MAX_ADDRESS_CHARACTERS or not _PLAIN.match(url) or "\\" in url:
        raise _refused(url, "it holds characters that no URL has, or is too long")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError as error:
        raise _refused(url, str(error)) from error
    if "?" in url or "#" in url:
        raise _refused(url, "a repository has neither query nor fragment")
    if "@" in split.netloc:
        raise _refused(url, "a repository's address names no user")
    if not url[len(split.scheme) :].startswith("://"):
        raise _refused(url, "'://' is missing behind the scheme")
    parts = _parts(url, split.path)
    if split.scheme == "file":
        if split.netloc not in ("", "localhost"):
            raise _refused(url, "a file: address names no host")
        return Address("file", "", 0, parts)
    return Address(split.scheme, _host(url, split.hostname), _port(url, split.scheme, port), parts)


def directory_address(path: bytes) -> Address:
    """The address of a directory on this machine; ``path`` is absolute and normal."""
    return Address("file", "", 0, tuple(part for part in path.split(b"/") if part))


def _host(url: str, host: str | None) -> str:
    if host is None or not _HOST.match(host):
        raise _refused(url, "it names no host")
    return host


def _port(url: str, scheme: str, port: int | None) -> int:
    default = DEFAULT_PORTS.get(scheme)
    if default is None:
        raise _refused(url, "only http:, https: and file: repositories can be read")
    if port == 0:
        raise _refused(url, "port 0 cannot be contacted")
    return default if port is None else port


def _parts(url: str, path: str) -> tuple[bytes, ...]:
    parts = tuple(unquote_to_bytes(part) for part in path.split("/") if part)
    for part in parts:
        if part in (b".", b"..") or any(byte in b"/\\" or byte < 32 for byte in part):
            raise _refused(url, "its path has a component that is not a plain name")
    return parts


def _refused(url: str, why: str) -> UsageError:
    return UsageError(f"{url[:200]!r} is not the address of a repository: {why}")
