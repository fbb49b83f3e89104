"""The one door to httpx: clients for registries.

Callers use the names below and :func:`transport_errors`, and see only ``thinfs.errors``.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

import thinfs
from thinfs.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator

Client = httpx.Client
Request = httpx.Request
Response = httpx.Response
Url = httpx.URL
Timeout = httpx.Timeout

USER_AGENT = f"thinfs/{thinfs.__version__}"


def client(
    *,
    timeout_s: float,
    connect_timeout_s: float | None = None,
    verify: ssl.SSLContext | bool = True,
) -> Client:
    """A synchronous client that follows redirects; the caller closes it.

    Proxies come from the environment (``HTTPS_PROXY``, ``NO_PROXY`` …).
    """
    return httpx.Client(
        timeout=_timeout(timeout_s, connect_timeout_s),
        verify=verify,
        follow_redirects=True,
        headers={"User-Agent": USER_AGENT},
    )


@contextmanager
def transport_errors(what: str) -> Iterator[None]:
    """Turn what httpx raises inside the block into :class:`TransportError` about ``what``."""
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError) as error:
        detail = str(error) or type(error).__name__
        raise TransportError(f"{what}: {detail}") from error


def read_bounded(response: Response, limit: int) -> bytes:
    """The body of a streamed answer, as it came over the wire.

    Raises:
        TransportError: it is longer than ``limit`` bytes.
    """
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > limit:
            raise TransportError(f"{response.url.host}: answer is longer than {limit} bytes")
    return bytes(body)


def _timeout(timeout_s: float, connect_timeout_s: float | None) -> Timeout:
    return httpx.Timeout(timeout_s, connect=connect_timeout_s or timeout_s)
