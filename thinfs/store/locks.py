"""Who may work on a repository at once: converters together, the collector alone.

Two files are locked with flock(2), so a killed process holds nothing. Converters hold ``lock``
shared for as long as they count on what they have found in the repository. Who removes files
holds it exclusively, and before that ``gate``, which every converter passes on its way in:
otherwise converters that follow each other closely would keep a collector out for ever.
"""

from __future__ import annotations

import fcntl
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from thinfs.errors import StoreError
from thinfs.store.layout import GATE_FILE, LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLL_S: Final = 0.02
"""How often a collector looks whether the last converter has gone."""


@contextmanager
def shared(repository: Path) -> Iterator[None]:
    """Be one of those who add to a repository; waits while somebody removes from it.

    Raises:
        OSError: the lock files cannot be opened for writing.
    """
    with (repository / LOCK_FILE).open("ab") as lock:
        with (repository / GATE_FILE).open("ab") as gate:
            fcntl.flock(gate, fcntl.LOCK_SH)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextmanager
def exclusive(repository: Path, wait_s: float) -> Iterator[None]:
    """Be the only one who works on a repository; readers are not concerned.

    Args:
        repository: its directory.
        wait_s: longest time that new converters are kept waiting for those at work to end.

    Raises:
        StoreError: converters were still at work then.
        OSError: the lock files cannot be opened for writing.
    """
    deadline = time.monotonic() + wait_s
    with ExitStack() as stack:
        for name in (GATE_FILE, LOCK_FILE):
            file = stack.enter_context((repository / name).open("ab"))
            while not _taken(file.fileno()):
                if time.monotonic() >= deadline:
                    raise StoreError(
                        f"{repository}: somebody was at work on it for all of {wait_s:g} s;"
                        " try again later, or wait longer"
                    )
                time.sleep(POLL_S)
        yield


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
