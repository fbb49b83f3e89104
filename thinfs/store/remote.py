"""A repository behind any web server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin

import trio

from thinfs.errors import FormatError, MissingError, TransportError, UsageError
from thinfs.http import transport_errors
from thinfs.store.address import parse_address

if TYPE_CHECKING:
    from thinfs.http import AsyncClient, Response
    from thinfs.store.address import Address

MAX_REDIRECTS: Final = 3
MAX_UNWANTED_BYTES: Final = 64 << 10
MAX_LENGTH_DIGITS: Final = 20
OK: Final = 200
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
ABSENT: Final = frozenset({404, 410})

# What is stored is compressed already, and its digest is of these very bytes.
_HEADERS: Final = {"Accept-Encoding": "identity"}
_FRESH_HEADERS: Final = _HEADERS | {"Cache-Control": "no-cache", "Pragma": "no-cache"}


class HttpSource:
    """Reads over HTTP with keep-alive. Owns its client.

    A redirect is followed within the same scheme, host and port only: the configuration allowed
    this repository, not every place it might send us to.
    """

    behind_caches = True

    def __init__(self, address: Address, client: AsyncClient) -> None:
        self.url = address.url
        self._address = address
        self._client = client

    async def get(self, path: str, max_bytes: int, *, fresh: bool = False) -> bytes:
        """Read one file; see :class:`thinfs.store.source.Source`."""
        headers = _FRESH_HEADERS if fresh else _HEADERS
        url = f"{self.url}/{quote(path)}"
        for _ in range(MAX_REDIRECTS + 1):
            with transport_errors(url):
                async with self._client.stream(
                    "GET", url, headers=headers, follow_redirects=False
                ) as response:
                    if response.status_code not in REDIRECTS:
                        return await _body(response, url, max_bytes)
                    await _keep_connection(response)
                    url = self._redirected(url, response)
        raise TransportError(f"{url}: more than {MAX_REDIRECTS} redirects")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _redirected(self, url: str, response: Response) -> str:
        target = urljoin(url, response.headers.get("Location", ""))
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


async def _body(response: Response, url: str, max_bytes: int) -> bytes:
    if response.status_code != OK:
        await _keep_connection(response)
    if response.status_code in ABSENT:
        raise MissingError(f"{url} does not exist (HTTP {response.status_code})")
    if response.status_code != OK:
        raise TransportError(f"{url}: HTTP {response.status_code} {response.reason_phrase}")
    body = None
    if _announced(response) <= max_bytes:
        body = await _at_most(response, max_bytes)
    if body is None:
        raise FormatError(f"{url} is longer than {max_bytes} bytes")
    return body


async def _at_most(response: Response, max_bytes: int) -> bytes | None:
    """All of a body, or ``None`` when it is longer."""
    body = bytearray()
    # httpx reads through several generators, each inside another. Leaving the loop would leave
    # the inner ones to the garbage collector; cancelling ends them all, from the inside.
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            if len(body) + len(chunk) > max_bytes:
                scope.cancel()
            else:
                body += chunk
    return None if scope.cancel_called else bytes(body)


async def _keep_connection(response: Response) -> None:
    """Read the body that nobody wants when it is short, so that the connection is used again."""
    if 0 < _announced(response) <= MAX_UNWANTED_BYTES:
        await _at_most(response, MAX_UNWANTED_BYTES)


def _announced(response: Response) -> int:
    text = response.headers.get("Content-Length", "")
    plausible = len(text) < MAX_LENGTH_DIGITS and text.isascii() and text.isdecimal()
    return int(text) if plausible else 0
