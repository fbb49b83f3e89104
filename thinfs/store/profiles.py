"""Boot profiles: what containers of one image touched until they were ready, in order.

A profile is advice for converters, kept beside the root's record as ``profiles/<chain id>``. It
names files by path and by content, so that it also helps to convert the next version of an
image, in which some contents have changed. No node reads it: a node reads the boot record that
a converter made with its help.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

import msgspec

from thinfs.errors import FormatError

PROFILE_VERSION = 1
MAX_PROFILE_BYTES = 64 << 20

Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
HexDigest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0)]


_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")


class Touched(msgspec.Struct, frozen=True, omit_defaults=True):
    """One content that was read.

    Attributes:
        content: its digest, bare hex.
        path: one of its paths in the image, without a leading slash, as :func:`path_text`
            writes it; empty when it is not known.
        at_ms: milliseconds from the start of the container to the first read.
        ranges: ``(offset, length)`` of what was read, ascending; empty: all of it.
    """

    content: HexDigest
    path: str = ""
    at_ms: Count = 0
    ranges: tuple[tuple[Count, Count], ...] = ()


class Profile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole profile.

    Attributes:
        version: ``1``.
        chain_id: of the image's layers.
        origin: the image, for people.
        runs: how many starts it was made from.
        ready_ms: median milliseconds until those were ready.
        touched: in the order of first touch.
        metadata: digest of the metadata image whose blocks ``metadata_ranges`` names; empty
            when those are not known.
        metadata_ranges: ``(offset, length)`` of the metadata image that were read, ascending.
    """

    version: int
    chain_id: Digest
    origin: str
    runs: Annotated[int, msgspec.Meta(gt=0)]
    ready_ms: Count
    touched: tuple[Touched, ...]
    metadata: str = ""
    metadata_ranges: tuple[tuple[Count, Count], ...] = ()


def path_text(path: bytes) -> str:
    """A path as text: bytes that are no UTF-8, and ``%`` itself, are written ``%XX``."""
    text = path.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in text)


def path_bytes(text: str) -> bytes:
    """The path that :func:`path_text` has written."""
    raw = text.encode("utf-8", "replace")
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), raw)


def parse_profile(data: bytes, where: str) -> Profile:
    """Read a profile.

    Raises:
        FormatError: it is malformed or of another version; the message names ``where``.
    """
    if len(data) > MAX_PROFILE_BYTES:
        raise FormatError(f"{where}: {len(data)} bytes, more than {MAX_PROFILE_BYTES}")
    try:
        profile = msgspec.json.decode(data, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{where} is not a boot profile: {error}") from error
    if profile.version != PROFILE_VERSION:
        raise FormatError(
            f"{where} has version {profile.version}; this thinfs reads {PROFILE_VERSION}"
        )
    return profile


def render_profile(profile: Profile) -> bytes:
    """Write a profile: the same bytes for the same values, a line for each content."""
    head = msgspec.json.encode(msgspec.structs.replace(profile, touched=()))
    lines = b",\n".join(msgspec.json.encode(each) for each in profile.touched)
    return head.replace(b'"touched":[]', b'"touched":[\n' + lines + b"\n]", 1) + b"\n"


def profile_digest(profile: Profile) -> str:
    """``sha256:`` and the digest of the profile as it is written."""
    return f"sha256:{hashlib.sha256(render_profile(profile)).hexdigest()}"
