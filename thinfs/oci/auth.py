"""Proving to a registry who we are: Docker's stored credentials, Basic and bearer tokens.

Secrets are never part of a ``repr``, a message or a log line.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from thinfs.errors import StoreError, UsageError
from thinfs.oci.hosts import DOCKER_HUB_HOST
from thinfs.oci.reference import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CONFIG_FILE_BYTES = 4 << 20
HELPER_TIMEOUT_S = 60.0
"""Longest a credential helper may take: some ask a cloud, some ask the user."""

MAX_CHALLENGE_CHARS = 16 << 10

_Value = TypeVar("_Value")
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_TOKEN_USER = "<token>"  # noqa: S105 - the user name by which helpers mark identity tokens


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a registry knows one user by; all empty means anonymous.

    Attributes:
        username: for Basic, and for asking for tokens.
        password: its password.
        identity_token: a refresh token; used instead of user name and password.
        registry_token: a bearer token, used as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """Value of an ``Authorization`` header."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


ANONYMOUS = Credentials()


class _AuthJson(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _DockerConfigJson(msgspec.Struct, frozen=True):
    auths: dict[str, _AuthJson] | None = None
    cred_helpers: dict[str, str] | None = msgspec.field(name="credHelpers", default=None)
    creds_store: str = msgspec.field(name="credsStore", default="")


class _HelperJson(msgspec.Struct, frozen=True, rename="pascal"):
    username: str = ""
    secret: str = ""


class CredentialStore:
    """Credentials as Docker keeps them: in ``config.json`` and in credential helpers."""

    def __init__(self, config_file: Path) -> None:
        self._file = config_file

    def find(self, authority: str) -> Credentials:
        """Credentials for a registry; anonymous ones when none are stored.

        Args:
            authority: the server that asks: host with optional port.

        Raises:
            UsageError: the file is malformed.
            StoreError: a helper is missing or fails.
        """
        config = self._read()
        key = _key_of(authority)
        helper = _matching(config.cred_helpers or {}, key) or config.creds_store
        if helper:
            found = _ask_helper(helper, _DOCKER_HUB_KEY if key == DOCKER_HUB else authority)
            if found:
                return found
        entry = _matching(config.auths or {}, key)
        return self._decode(authority, entry) if entry else ANONYMOUS

    def _read(self) -> _DockerConfigJson:
        try:
            with self._file.open("rb") as file:
                data = file.read(MAX_CONFIG_FILE_BYTES + 1)
        except FileNotFoundError:
            return _DockerConfigJson()
        except OSError as error:
            raise UsageError(f"{self._file}: {error.strerror}") from error
        if len(data) > MAX_CONFIG_FILE_BYTES:
            raise UsageError(f"{self._file} is larger than {MAX_CONFIG_FILE_BYTES} bytes")
        try:
            return msgspec.json.decode(data, type=_DockerConfigJson)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"{self._file} is not a Docker configuration: {error}") from error

    def _decode(self, authority: str, entry: _AuthJson) -> Credentials:
        username, password = entry.username, entry.password
        if entry.auth:
            try:
                pair = base64.b64decode(entry.auth, validate=True).decode()
            except ValueError:  # no base64, or no UTF-8 in it
                # the cause would show the secret
                raise UsageError(f"{self._file}: auth of {authority} is malformed") from None
            username, _, password = pair.partition(":")
        token = entry.identitytoken
        return Credentials(username, password.rstrip("\0"), token, entry.registrytoken)


def default_docker_config() -> Path:
    """Where Docker's configuration file is: below ``$DOCKER_CONFIG`` or ``~/.docker``."""
    directory = os.environ.get("DOCKER_CONFIG")
    return (Path(directory) if directory else Path.home() / ".docker") / "config.json"


def _key_of(address: str) -> str:
    """What an address in a configuration and a server's own are compared by."""
    bare = address.removeprefix("https://").removeprefix("http://")
    host = bare.partition("/")[0].lower()
    return DOCKER_HUB if host in ("index.docker.io", DOCKER_HUB_HOST, DOCKER_HUB) else host


def _matching(entries: Mapping[str, _Value], key: str) -> _Value | None:
    return next((value for name, value in entries.items() if _key_of(name) == key), None)


def _ask_helper(name: str, server: str) -> Credentials | None:
    """Ask ``docker-credential-NAME`` (docker-credential-helpers' protocol)."""
    if not _HELPER_NAME.match(name):
        raise UsageError(f"{name!r} is not the name of a credential helper")
    command = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [command, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise StoreError(f"credential helper {command} is not installed") from error
    except (OSError, subprocess.TimeoutExpired):
        raise StoreError(f"credential helper {command} did not answer for {server}") from None
    if done.returncode != 0:
        if b"credentials not found" in done.stdout:
            return None
        reason = done.stderr.decode(errors="replace").strip().splitlines()[:1]
        raise StoreError(
            f"credential helper {command} failed for {server}: {''.join(reason)[:200]}"
        )
    try:
        answer = msgspec.json.decode(done.stdout, type=_HelperJson)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StoreError(f"credential helper {command} gave no credentials for {server}") from None
    if answer.username == _TOKEN_USER:
        return Credentials(identity_token=answer.secret)
    return Credentials(answer.username, answer.secret)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way a server says it may be convinced (RFC 9110, section 11.3).

    Attributes:
        scheme: lower case: ``basic``, ``bearer``.
        parameters: names in lower case.
    """

    scheme: str
    parameters: Mapping[str, str]


_CHALLENGE_PART = re.compile(
    r"""\s*(?:,\s*)*                                  # empty list elements are allowed
    (?: (?P<name>[\w!#$%&'*+.^`|~-]+)\s*=\s*          # a parameter …
        (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<plain>[^\s,"]+) )
      | (?P<scheme>[\w!#$%&'*+.^`|~-]+)(?=\s|,|$)     # … or the scheme of the next challenge
    )""",
    re.VERBOSE,
)


def parse_challenges(header: str) -> list[Challenge]:
    """Read ``WWW-Authenticate``, which may hold several challenges; stops at what is malformed."""
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    header = header[:MAX_CHALLENGE_CHARS]
    while match := _CHALLENGE_PART.match(header, position):
        position = match.end()
        if match["scheme"]:
            found.append((match["scheme"].lower(), {}))
        elif found:
            quoted = match["quoted"]
            value = match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1][1][match["name"].lower()] = value
        else:
            break
    return [Challenge(scheme, parameters) for scheme, parameters in found]
