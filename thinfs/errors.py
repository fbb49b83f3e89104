"""Every error thinfs raises on purpose, by what its reader can do about it.

ThinfsError
    UsageError      exit 2   the command or configuration is wrong: correct it
    MissingError    exit 3   what was named does not exist: name something else, create it
    FormatError     exit 4   bytes are not what they claim to be: the image or file is bad
    IntegrityError  exit 5   bytes do not match their digest: damaged or forged, try another source
    TransportError  exit 6   a server could not be reached or answered badly: try again, check it
    StoreError      exit 7   the local disk or a service on this machine failed: room, permissions

Foreign errors (httpx, pycurl, sqlite3, zstandard, catalog, OSError) are mapped to these once, in
the module that calls the foreign code. The command line prints the message on one line and exits
with ``exit_code``; messages therefore say what happened, to what, and what to do next.
"""

from __future__ import annotations

from typing import Literal

Blame = Literal["", "host", "proxy"]


class ThinfsError(Exception):
    """Base of all errors that are reported to a user without a traceback."""

    exit_code = 1


class UsageError(ThinfsError):
    """The command line or the configuration asks for something impossible."""

    exit_code = 2


class MissingError(ThinfsError):
    """A named image, object, file or service does not exist."""

    exit_code = 3


class FormatError(ThinfsError):
    """Bytes that are not what they should be: malformed, oversized or forbidden."""

    exit_code = 4


class IntegrityError(ThinfsError):
    """Bytes whose digest is not the one they were asked for by."""

    exit_code = 5


class TransportError(ThinfsError):
    """A server that cannot be reached, refuses, or stops in the middle of an answer.

    Attributes:
        blame: which of the two at the other end failed; empty where nobody can tell.
        retry_after_s: how long the server asked to be left alone, in seconds; 0: it did not.
    """

    exit_code = 6

    def __init__(self, message: str, *, blame: Blame = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.blame: Blame = blame
        self.retry_after_s = retry_after_s


class StoreError(ThinfsError):
    """The local disk, a lock or a local service failed."""

    exit_code = 7
