"""Which source is asked first: the given order, but for those that do not answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.errors import TransportError
    from thinfs.store.source import Source

log = logging.getLogger(__name__)

LAST_FOR_S: Final = 30.0
"""How long a source that did not answer is asked after the others."""


class Health:
    """Remembers which sources did not answer; says so once, and once when they are back."""

    def __init__(self) -> None:
        self._last_until: dict[str, float] = {}

    def first(self, sources: Sequence[Source], now: float) -> Source:
        """The source to ask next; ``sources`` holds at least one."""
        healthy = (s for s in sources if self._last_until.get(s.url, 0.0) <= now)
        return next(healthy, sources[0])

    def failed(self, source: Source, now: float, error: TransportError) -> None:
        """All attempts at ``source`` have failed, the last one with ``error``."""
        if source.url not in self._last_until:
            log.warning("repository %s does not answer: %s", source.url, error)
        self._last_until[source.url] = now + LAST_FOR_S

    def answered(self, source: Source) -> None:
        """``source`` has sent something."""
        if self._last_until.pop(source.url, None) is not None:
            log.info("repository %s answers again", source.url)
