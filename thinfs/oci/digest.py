"""Digests as OCI writes them: ``sha256:`` and 64 lower-case hex digits.

SHA-256 is the one algorithm that registries use and that the rest of thinfs names things by;
others are refused with a message.
"""

from __future__ import annotations

import hashlib
import re

from thinfs.errors import FormatError, IntegrityError

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}\Z")
_PREFIX = "sha256:"


def digest_of(data: bytes) -> str:
    """The digest of some bytes."""
    return _PREFIX + hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether ``text`` is a SHA-256 digest in OCI's form."""
    return _SHA256.match(text) is not None


def checked_digest(text: str, what: str) -> str:
    """Give ``text`` back if it is a digest.

    Raises:
        FormatError: it is not; the message names ``what``.
    """
    if not is_digest(text):
        raise FormatError(f"{what}: {text[:100]!r} is not a digest of the form sha256:<64 hex>")
    return text


def hex_of(digest: str) -> str:
    """The bare hex digits of a digest that :func:`is_digest` accepts."""
    return digest.removeprefix(_PREFIX)


def verify(data: bytes, digest: str, what: str) -> bytes:
    """Give ``data`` back if it has the digest.

    Raises:
        IntegrityError: it has another one; the message names ``what``.
    """
    actual = digest_of(data)
    if actual != digest:
        raise IntegrityError(f"{what}: expected {digest}, got {actual} ({len(data)} bytes)")
    return data
