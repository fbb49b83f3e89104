"""Answers to registries' challenges: Basic, and bearer tokens that are kept until they expire."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from thinfs.errors import TransportError
from thinfs.http import Url, read_bounded, transport_errors
from thinfs.oci.auth import Challenge, Credentials, CredentialStore, parse_challenges
from thinfs.oci.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thinfs.http import Client, Request, Response

log = logging.getLogger(__name__)

MAX_TOKEN_BYTES = 1 << 20
DEFAULT_TOKEN_S = 60.0
"""How long a token is good for when its server does not say (distribution's token spec)."""

EXPIRY_MARGIN_S = 10.0
"""A token is renewed this long before it expires, but not before half of its life."""

CLIENT_ID = "thinfs"


class _TokenJson(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


class DeniedError(TransportError):
    """A server does not let us in."""


class Authorizer:
    """Gives one server's requests their ``Authorization``. Safe to use from several threads.

    Args:
        authority: host and port of the server.
        secure: whether it is reached by TLS; its credentials then leave by TLS only.
        store: where its credentials are; asked once, when the server first wants some.
        client: asks token servers.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        authority: str,
        *,
        secure: bool,
        store: CredentialStore,
        client: Client,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authority = authority
        self._secure = secure
        self._store = store
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._basic = False
        self._challenge: Challenge | None = None
        self._tokens: dict[str, tuple[str, float]] = {}  # by scope: token, when to renew it

    def header(self, scope: str) -> str | None:
        """``Authorization`` for a request within ``scope``, as far as the server wants one.

        Renews a token that is about to expire.

        Raises:
            DeniedError: the token server refuses.
            TransportError: it does not answer.
        """
        with self._lock:
            if self._basic:
                return self._known().basic
            if self._challenge is None:
                return None
            token, renew_at = self._tokens.get(scope, ("", 0.0))
            if not token or self._clock() >= renew_at:
                token = self._renew(scope)
            return f"Bearer {token}"

    def answer(self, response: Response, scope: str, used: str | None) -> bool:
        """Take note of a 401; say whether asking again makes sense.

        Args:
            response: the 401.
            scope: of the request.
            used: the ``Authorization`` that the request had.
        """
        with self._lock:
            held = self._tokens.get(scope)
            if held and used != f"Bearer {held[0]}":
                return True  # another thread has a new one by now
            self._tokens.pop(scope, None)
            challenges = {
                challenge.scheme: challenge
                for header in response.headers.get_list("WWW-Authenticate")
                for challenge in parse_challenges(header)
            }
            if "bearer" in challenges:
                self._challenge = challenges["bearer"]
                return True
            if "basic" in challenges and self._known().username:
                self._basic = True
                return used != self._known().basic
            return False

    def _known(self) -> Credentials:
        if self._credentials is None:
            self._credentials = self._store.find(self._authority)
        return self._credentials

    def _renew(self, scope: str) -> str:
        credentials = self._known()
        if credentials.registry_token:
            return credentials.registry_token
        assert self._challenge is not None
        parameters = self._challenge.parameters
        realm = parameters.get("realm", "")
        self._check_realm(realm, credentials)
        log.debug("asking %s for a token for %s", urlsplit(realm).netloc, scope)
        answer = self._ask(realm, parameters, scope, credentials)
        token = answer.token or answer.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise DeniedError(f"{self._authority}: its token server gave no token")
        life_s = max(answer.expires_in or DEFAULT_TOKEN_S, 1.0)
        self._tokens[scope] = (token, self._clock() + max(life_s / 2, life_s - EXPIRY_MARGIN_S))
        return token

    def _check_realm(self, realm: str, credentials: Credentials) -> None:
        url = urlsplit(realm)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise DeniedError(f"{self._authority} names no token server")
        open_wire = url.scheme == "http" and not is_loopback(url.hostname)
        if self._secure and open_wire and credentials:
            raise DeniedError(
                f"{self._authority} wants its credentials sent to {url.netloc} without TLS"
            )

    def _ask(
        self, realm: str, parameters: Mapping[str, str], scope: str, credentials: Credentials
    ) -> _TokenJson:
        scopes = [scope] if scope else []
        wanted = parameters.get("scope", "")
        if wanted and not _covers(scope, wanted):
            scopes.append(wanted)
        what = f"token server of {self._authority}"
        with transport_errors(what):
            request = self._request(realm, parameters.get("service", ""), scopes, credentials)
            # a POST holds the identity token: it goes where it was sent, and nowhere else
            response = self._client.send(
                request, stream=True, follow_redirects=request.method == "GET"
            )
            try:
                body = read_bounded(response, MAX_TOKEN_BYTES)
            finally:
                response.close()
        return self._parse(response.status_code, body, what)

    def _request(
        self, realm: str, service: str, scopes: list[str], credentials: Credentials
    ) -> Request:
        headers = {"Accept-Encoding": "identity"}
        if credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "scope": " ".join(scopes),
                "client_id": CLIENT_ID,
                "refresh_token": credentials.identity_token,
            }
            return self._client.build_request("POST", realm, data=form, headers=headers)
        query = {
            name: values
            for name, values in (("service", [service]), ("scope", scopes))
            if any(values)
        }
        if credentials.username:
            headers["Authorization"] = credentials.basic
        # merged, for a realm may have a query of its own
        url = Url(realm).copy_merge_params(query)
        return self._client.build_request("GET", url, headers=headers)

    def _parse(self, status: int, body: bytes, what: str) -> _TokenJson:
        if status in (400, 401, 403, 404):
            raise DeniedError(
                f"{what} refuses ({status}): log in with 'docker login {self._authority}', "
                "or the image does not exist"
            )
        if status != 200:
            raise TransportError(f"{what} answered {status}")
        try:
            return msgspec.json.decode(body, type=_TokenJson)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise TransportError(f"{what} gave no token") from None  # the body may hold one


def _covers(scope: str, wanted: str) -> bool:
    """Whether ``scope`` (``repository:name:pull,push``) asks for all that ``wanted`` does."""
    resource, _, actions = scope.rpartition(":")
    wanted_resource, _, wanted_actions = wanted.rpartition(":")
    return resource == wanted_resource and set(wanted_actions.split(",")) <= set(actions.split(","))
