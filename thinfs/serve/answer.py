"""How a request for one file is answered, decided from its headers alone: no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thinfs.serve.published import Published

_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Plan:
    """The head of an answer, and which bytes of the file follow it.

    Attributes:
        status: 200, 206, 304 or 416.
        headers: names in lower case.
        first: offset of the first byte to send.
        length: bytes to send, 0 for none.
    """

    status: int
    headers: dict[str, str]
    first: int = 0
    length: int = 0


def plan(found: Published, size: int, etag: str, request: Mapping[str, str]) -> Plan:
    """Decide on the answer to a GET (a HEAD sends the same head and no body).

    Args:
        found: what is asked for.
        size: bytes of the file now.
        etag: its strong entity tag, with quotes.
        request: the request's headers, looked up without regard to case.
    """
    headers = {"etag": etag, "cache-control": found.cache_control, "accept-ranges": "bytes"}
    if etag_matches(request.get("if-none-match", ""), etag):
        return Plan(304, headers)
    headers["content-type"] = found.media_type
    span = _wanted(request, size, etag)
    if span is None:
        headers["content-length"] = str(size)
        return Plan(200, headers, 0, size)
    if not span:
        headers |= {"content-range": f"bytes */{size}", "content-length": "0"}
        return Plan(416, headers)
    headers["content-range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    headers["content-length"] = str(len(span))
    return Plan(206, headers, span.start, len(span))


def etag_matches(if_none_match: str, etag: str) -> bool:
    """Whether a client already has ``etag`` (RFC 9110, 13.1.2: weak comparison).

    Args:
        if_none_match: the header's value, a list of tags or ``*``.
        etag: the current strong tag, with its quotes.
    """
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]


def _wanted(request: Mapping[str, str], size: int, etag: str) -> range | None:
    """The bytes asked for: ``None`` for all of them, an empty range for what is not there."""
    if request.get("if-range", etag) != etag:
        return None
    found = _RANGE.fullmatch(request.get("range", ""))
    if found is None or found[0] == "bytes=-":
        return None  # no range, several ranges, another unit: RFC 9110, 14.2 lets us send all
    first, last = found.groups()
    if not first:
        return range(max(size - int(last), 0), size) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)
