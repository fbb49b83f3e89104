"""``[sources] proxies``: which proxies there are, and in which order one object asks them. Pure.

The notation is CVMFS's: ``http://a:3128|http://b:3128;http://c:3128;DIRECT``. Proxies joined by
``|`` share the load; what stands behind ``;`` is for when all before it have failed.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from thinfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Proxy = str | None
"""An address; empty: no proxy; ``None``: as the environment says."""

Groups = tuple[tuple[Proxy, ...], ...]
"""Groups in order of preference; the proxies of one share the load."""

DIRECT: Final = "DIRECT"
ENVIRONMENT: Final[Groups] = ((None,),)
MAX_PROXIES: Final = 64

_ADDRESS = re.compile(r"https?://[!-~]+\Z")


def parse_proxies(text: str) -> Groups:
    """Read the notation; an empty text means the environment's proxies.

    Raises:
        UsageError: it is malformed; the message says where.
    """
    if not text.strip():
        return ENVIRONMENT
    groups = tuple(
        tuple(_proxy(name.strip()) for name in group.split("|")) for group in text.split(";")
    )
    named = [proxy for group in groups for proxy in group]
    if len(named) > MAX_PROXIES or len(set(named)) < len(named):
        raise UsageError(f"[sources] proxies: at most {MAX_PROXIES} proxies, each of them once")
    return groups


def in_order(groups: Groups, digest: bytes) -> list[Proxy]:
    """All proxies in the order in which one object prefers them.

    Within a group each proxy gets its share of the objects, and every node asks the same proxy
    for the same object, so that a cache in there holds it once.
    """
    return [proxy for group in groups for proxy in _shared(group, digest)]


def _shared(group: Sequence[Proxy], digest: bytes) -> Sequence[Proxy]:
    # Rendezvous hashing: when one fails, only its own objects go elsewhere.
    def score(proxy: Proxy) -> bytes:
        return hashlib.sha256((proxy or "").encode() + digest).digest()

    return sorted(group, key=score) if len(group) > 1 else group


def _proxy(name: str) -> Proxy:
    if name == DIRECT:
        return ""
    try:
        split = urlsplit(name)
        usable = _ADDRESS.match(name) and split.hostname and split.port
    except ValueError:
        usable = None
    if not usable or split.path not in ("", "/") or split.query or split.fragment:
        shown = name.rpartition("@")[2]
        raise UsageError(
            f"[sources] proxies: {shown!r} is neither http://host:port nor {DIRECT};"
            ' join them with "|" and ";"'
        )
    return name.rstrip("/")
