"""Logins for repositories, from a file that others may renew while we run.

::

    ["https://images.example.org"]
    bearer = "…"

    ["http://10.0.0.5:8080"]
    username = "node"
    password = "…"

A login is for one scheme, host and port; a path in the address changes nothing. The file is
read again when it has changed, so a token that expires is renewed by replacing the file.
"""

from __future__ import annotations

import base64
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from thinfs.errors import UsageError
from thinfs.store.address import parse_address

if TYPE_CHECKING:
    from thinfs.store.address import Address

log = logging.getLogger(__name__)

MAX_FILE_BYTES: Final = 1 << 20

_TOKEN = re.compile(r"[!-~]+\Z")  # what a header can carry


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Either a token, or a name and a password."""

    bearer: str = ""
    username: str = ""
    password: str = ""


Logins = dict[tuple[str, str, int], str]
"""Scheme, host and port → the value of ``Authorization``."""


class Credentials:
    """What one file says now.

    Args:
        path: the file; empty: there are no logins.

    Raises:
        UsageError: it cannot be read or is malformed; the message names it, and shows no secret.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._read_at: tuple[int, int, int] | None = None
        self._logins: Logins = {}
        if self._path is not None:
            self._read(self._path)

    def header(self, address: Address) -> tuple[str, ...]:
        """The header line for a server, or none."""
        if self._path is None:
            return ()
        try:
            self._read(self._path)
        except UsageError as error:
            log.warning("logins stay as they were: %s", error)
        login = self._logins.get((address.scheme, address.host, address.port))
        return (f"Authorization: {login}",) if login else ()

    def _read(self, path: Path) -> None:
        try:
            status = path.stat()
            found = (status.st_ino, status.st_mtime_ns, status.st_size)
            if found == self._read_at:
                return
            self._read_at = found
            text = path.read_bytes()
        except OSError as error:
            raise UsageError(f"[sources] credentials {path}: {error.strerror}") from error
        self._logins = parse_logins(text, str(path))


def parse_logins(text: bytes, where: str) -> Logins:
    """Read the file's text.

    Raises:
        UsageError: malformed; the message names ``where``.
    """
    if len(text) > MAX_FILE_BYTES:
        raise UsageError(f"{where}: longer than {MAX_FILE_BYTES} bytes")
    try:
        logins = msgspec.toml.decode(text, type=dict[str, Login])
    except RecursionError as error:
        raise UsageError(f"{where} is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: {error}") from error
    return dict(_entry(url, login, where) for url, login in logins.items())


def _entry(url: str, login: Login, where: str) -> tuple[tuple[str, str, int], str]:
    try:
        address = parse_address(url)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if bool(login.bearer) == bool(login.username):
        raise UsageError(f"{where}: {url} needs either bearer, or username and password")
    return (address.scheme, address.host, address.port), _value(url, login, where)


def _value(url: str, login: Login, where: str) -> str:
    if login.bearer:
        if not _TOKEN.match(login.bearer):
            raise UsageError(f"{where}: the bearer of {url} has characters that no token has")
        return f"Bearer {login.bearer}"
    if ":" in login.username:
        raise UsageError(f"{where}: the username of {url} has a colon (RFC 7617, section 2)")
    pair = f"{login.username}:{login.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
