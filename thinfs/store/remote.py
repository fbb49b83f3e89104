"""A repository behind any web server."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin

from thinfs.curl import OK, Transfers
from thinfs.errors import MissingError, TransportError, UsageError
from thinfs.store.address import parse_address
from thinfs.store.credentials import Credentials
from thinfs.transfer import Get, Patience, Tls

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from thinfs.config import SourcesConfig
    from thinfs.store.address import Address
    from thinfs.transfer import Answer

MAX_REDIRECTS: Final = 3
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
ABSENT: Final = frozenset({404, 410})
NEEDS_LOGIN: Final = frozenset({401, 403})
ASKS_FOR_PATIENCE: Final = frozenset({429, 503})
MAX_RETRY_DIGITS: Final = 9

# What is stored is compressed already, and its digest is of these very bytes.
_HEADERS: Final = ("Accept: */*", "Accept-Encoding: identity")
_FRESH_HEADERS: Final = (*_HEADERS, "Cache-Control: no-cache", "Pragma: no-cache")


class HttpSource:
    """Reads over HTTP with keep-alive.

    A redirect is followed within the same scheme, host and port only: the configuration allowed
    this repository, not every place it might send us to.

    Args:
        address: of the repository.
        config: how long, how many, and whom to trust.

    Raises:
        UsageError: a certificate, or the file with logins, cannot be read.
    """

    behind_caches = True

    def __init__(self, address: Address, config: SourcesConfig) -> None:
        self.url = address.url
        self._address = address
        slowest = config.low_speed_bytes_per_s
        self._direct = Patience(config.connect_timeout_s, config.timeout_s, slowest)
        self._proxied = Patience(config.connect_timeout_s, config.proxy_timeout_s, slowest)
        self._credentials = Credentials(config.credentials)
        tls = Tls(config.ca_file, config.client_certificate, config.client_key)
        self._transfers = Transfers(config.connections, tls)

    async def get(
        self, path: str, max_bytes: int, *, fresh: bool = False, proxy: str | None = None
    ) -> bytes:
        """Read one file; see :class:`thinfs.store.source.Source`."""
        pieces: list[bytes] = []
        await self._fetch(path, max_bytes, pieces.append, fresh=fresh, proxy=proxy)
        return b"".join(pieces)

    async def copy(
        self,
        path: str,
        max_bytes: int,
        into: BinaryIO,
        *,
        fresh: bool = False,
        proxy: str | None = None,
    ) -> int:
        """Copy one file; see :class:`thinfs.store.source.Source`."""
        written = 0

        def write(piece: bytes) -> None:
            nonlocal written
            written += into.write(piece)

        await self._fetch(path, max_bytes, write, fresh=fresh, proxy=proxy)
        return written

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transfers.aclose()

    async def _fetch(
        self,
        path: str,
        max_bytes: int,
        sink: Callable[[bytes], object],
        *,
        fresh: bool,
        proxy: str | None,
    ) -> None:
        login = self._credentials.header(self._address)
        headers = (*(_FRESH_HEADERS if fresh else _HEADERS), *login)
        patience = self._proxied if proxy else self._direct
        url = f"{self.url}/{quote(path)}"
        for _ in range(MAX_REDIRECTS + 1):
            get = Get(url, headers, max_bytes, patience, proxy)
            answer = await self._transfers.fetch(get, sink)
            if answer.status not in REDIRECTS:
                _check(answer, get, time.time())
                return
            url = self._redirected(url, answer)
        raise TransportError(f"{url}: more than {MAX_REDIRECTS} redirects", blame="host")

    def _redirected(self, url: str, answer: Answer) -> str:
        target = urljoin(url, answer.headers.get("location", ""))
        try:
            address = parse_address(target)
        except UsageError as error:
            raise TransportError(f"{url} redirects to no plain address: {error}") from error
        origin = (self._address.scheme, self._address.host, self._address.port)
        if (address.scheme, address.host, address.port) != origin:
            raise TransportError(
                f"{url} redirects to {address.url}, another server: name that one as the repository"
            )
        return address.url


def _check(answer: Answer, get: Get, now: float) -> None:
    if answer.status in ABSENT:
        raise MissingError(f"{get.url} does not exist (HTTP {answer.status})")
    if answer.status != OK:
        message = f"{get.shown}: HTTP {answer.status} {answer.reason}".rstrip()
        if answer.status in NEEDS_LOGIN:
            message += " (logins are in the file that [sources] credentials names)"
        raise TransportError(message, retry_after_s=_retry_after_s(answer, now))


def _retry_after_s(answer: Answer, now: float) -> float:
    """How long the server asks to be left alone (RFC 9110, section 10.2.3); 0: it does not."""
    text = answer.headers.get("retry-after", "")
    if answer.status not in ASKS_FOR_PATIENCE or not text:
        return 0.0
    if len(text) < MAX_RETRY_DIGITS and text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0
