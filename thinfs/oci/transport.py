"""One server of a registry: requests with authorization, redirects, and errors by their cause."""

from __future__ import annotations

import logging
import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

import msgspec
import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from thinfs.errors import MissingError, TransportError, UsageError
from thinfs.http import client as http_client
from thinfs.http import read_bounded, transport_errors
from thinfs.oci.tokens import Authorizer, DeniedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thinfs.http import Client, Response
    from thinfs.oci.auth import CredentialStore
    from thinfs.oci.hosts import Host

log = logging.getLogger(__name__)

MAX_REDIRECTS = 5
MAX_PROBLEM_BYTES = 64 << 10
MAX_RETRY_AFTER_S = 60.0
"""Longest a server may make us wait before we ask again."""

CONNECT_TIMEOUT_S = 10.0
WAIT_INITIAL_S = 0.3
WAIT_MAX_S = 10.0

BLOB_CHUNK_BYTES = 512 << 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class RefusedError(TransportError):
    """A server that will give the same answer again."""


class BusyError(TransportError):
    """A server that asks to come back later.

    Attributes:
        after_s: when; ``None`` when it does not say.
    """

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


def is_final(error: Exception) -> bool:
    """Whether asking the same server again is of no use."""
    return not isinstance(error, TransportError) or isinstance(error, (DeniedError, RefusedError))


def retrying(attempts: int) -> Iterator[stamina.Attempt]:
    """Attempts with jittered back-off, for what another attempt may cure."""
    return iter(
        stamina.retry_context(
            on=_wait,
            attempts=attempts,
            timeout=None,
            wait_initial=WAIT_INITIAL_S,
            wait_max=WAIT_MAX_S,
        )
    )


def _tell(details: RetryDetails) -> None:
    log.warning("%s; trying again in %.1f s", details.caused_by, details.wait_for)


# for the whole process: nothing else in it uses stamina, whose own hook logs no reason
set_on_retry_hooks([_tell])


def _wait(error: Exception) -> bool | float:
    if is_final(error):
        return False
    if isinstance(error, BusyError) and error.after_s is not None:
        return error.after_s
    return True


class Connection:
    """Talks to one server. Safe to use from several threads."""

    def __init__(self, host: Host, store: CredentialStore, timeout_s: float) -> None:
        self.host = host
        self._client: Client = http_client(
            timeout_s=timeout_s,
            connect_timeout_s=min(timeout_s, CONNECT_TIMEOUT_S),
            verify=tls_context(host),
        )
        self._authorizer = Authorizer(
            host.authority,
            secure=host.url.startswith("https:"),
            store=store,
            client=self._client,
        )

    def __str__(self) -> str:
        return self.host.authority

    def close(self) -> None:
        """Close all connections to the server."""
        self._client.close()

    def open(
        self,
        method: str,
        address: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Response:
        """Send a request and give the answer's head; the caller closes it, with its body unread.

        Args:
            method: GET and HEAD follow redirects: with ``Authorization`` and the host's own
                headers as long as the server stays the same, without for another.
            address: below the host's API, or a whole URL that the server gave.
            scope: what a token must allow, ``repository:<name>:<actions>``.
            headers: more of them.
            content: body.

        Raises:
            TransportError: no answer.
            DeniedError: it wants authorization that we do not have.
        """
        url = self._url(address)
        with transport_errors(str(self)):
            response = self._authorized(method, url, scope, headers or {}, content)
            if method in ("GET", "HEAD"):
                response = self._follow(response, method, scope, headers or {})
        return response

    def _authorized(
        self, method: str, url: str, scope: str, headers: Mapping[str, str], content: bytes | None
    ) -> Response:
        used = self._authorizer.header(scope)
        response = self._send(method, url, self._own_headers(url, used, headers), content)
        if response.status_code != 401 or not self._is_ours(url):
            return response
        again = self._authorizer.answer(response, scope, used)
        if not again:
            return response
        response.close()
        used = self._authorizer.header(scope)
        return self._send(method, url, self._own_headers(url, used, headers), content)

    def _follow(
        self, response: Response, method: str, scope: str, headers: Mapping[str, str]
    ) -> Response:
        for _ in range(MAX_REDIRECTS):
            if response.status_code not in _REDIRECTS:
                return response
            response.close()
            url = urljoin(str(response.url), response.headers.get("Location", ""))
            if urlsplit(url).scheme not in ("http", "https"):
                raise RefusedError(f"{self}: redirects to something that is not HTTP")
            used = self._authorizer.header(scope) if self._is_ours(url) else None
            response = self._send(method, url, self._own_headers(url, used, headers), None)
        response.close()
        raise RefusedError(f"{self}: more than {MAX_REDIRECTS} redirects")

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> Response:
        request = self._client.build_request(method, url, headers=headers, content=content)
        return self._client.send(request, stream=True, follow_redirects=False)

    def _own_headers(
        self, url: str, authorization: str | None, headers: Mapping[str, str]
    ) -> dict[str, str]:
        # identity: bytes are hashed and counted as they are stored
        result = {"Accept-Encoding": "identity", **headers}
        if self._is_ours(url):
            result.update(self.host.headers)
            if authorization:
                result["Authorization"] = authorization
        return result

    def _is_ours(self, url: str) -> bool:
        return _origin(url) == _origin(self.host.url)

    def _url(self, address: str) -> str:
        if "://" in address:
            return address
        url = f"{self.host.url}/{address}"
        if not self.host.namespace:
            return url
        # a mirror of several registries learns from it which one is meant, as with containerd
        return f"{url}{'&' if '?' in address else '?'}ns={quote(self.host.namespace)}"


def tls_context(host: Host) -> ssl.SSLContext:
    """What a host's certificate is checked with: the system's authorities and its own.

    Raises:
        UsageError: a certificate or key file is unusable.
    """
    context = ssl.create_default_context()
    try:
        for ca in host.ca:
            context.load_verify_locations(ca)
        for pair in host.client:
            context.load_cert_chain(pair.certificate, pair.key)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(str(path) for path in (*host.ca, *(p.certificate for p in host.client)))
        raise UsageError(f"certificates of {host.authority} ({files}): {error}") from error
    if host.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname, parts.port or default


def body_chunks(response: Response, what: str) -> Iterator[bytes]:
    """The rest of an answer in chunks of 512 KiB.

    Raises:
        TransportError: the connection broke.
    """
    chunks = response.iter_raw(BLOB_CHUNK_BYTES)
    while True:
        with transport_errors(what):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


def check_status(response: Response, what: str, *good: int) -> None:
    """Do nothing if the answer's status is one of ``good``; else close it and raise.

    Raises:
        MissingError: 404.
        DeniedError: 401, 403.
        BusyError: 408, 429, 5xx.
        RefusedError: any other.
    """
    status = response.status_code
    if status in good:
        return
    try:
        message = f"{what}: {response.url.host} answered {status}{_problem(response)}"
    finally:
        response.close()
    if status == 404:
        raise MissingError(message)
    if status in (401, 403):
        raise DeniedError(f"{message}: no access, log in with 'docker login', or no such image")
    if status in (408, 429) or status >= 500:
        raise BusyError(message, _retry_after_s(response))
    raise RefusedError(message)


class _ProblemJson(msgspec.Struct):
    code: str = ""
    message: str = ""


class _ProblemsJson(msgspec.Struct):
    errors: list[_ProblemJson] = []


def _problem(response: Response) -> str:
    """What a registry says about an error, as `` (text)``; empty when it says nothing."""
    try:
        with transport_errors(""):
            problems = msgspec.json.decode(
                read_bounded(response, MAX_PROBLEM_BYTES), type=_ProblemsJson
            )
    except (TransportError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    text = "; ".join(p.message or p.code for p in problems.errors[:3])
    text = re.sub(r"[^\x20-\x7e]+", " ", text).strip()[:200]
    return f" ({text})" if text else ""


def _retry_after_s(response: Response) -> float | None:
    # the other form, a date, is rare enough to be left to the usual back-off
    text = response.headers.get("Retry-After", "")
    return min(float(text), MAX_RETRY_AFTER_S) if text.isascii() and text.isdigit() else None
