"""Logging for every command: one format, on stderr."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(level: str) -> None:
    """Send log records at ``level`` and above to stderr.

    The libraries' own loggers speak from WARNING on: theirs is not the user's concern.
    """
    logging.basicConfig(level=level, format=FORMAT, stream=sys.stderr, force=True)
    for name in ("httpx", "httpcore", "hypercorn", "hpack", "stamina"):
        logging.getLogger(name).setLevel(logging.WARNING)
