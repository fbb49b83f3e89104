"""How long to wait before the same source is asked again.

stamina works under trio, but its hooks belong to the whole process: every retry would be a
WARNING that names neither object nor source, and a counter in the default registry.
"""

from __future__ import annotations

import random
from typing import Final

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 10.0


def wait_s(failures: int, chance: float) -> float:
    """Seconds to wait after a number of failures in a row.

    Doubles from :data:`FIRST_WAIT_S` to :data:`LONGEST_WAIT_S`; between half and all of that
    is waited, so that the nodes of a cluster do not come back at the same moment.

    Args:
        failures: at least 1.
        chance: random, from 0 to 1.
    """
    longest = min(FIRST_WAIT_S * (1 << min(failures - 1, 30)), LONGEST_WAIT_S)
    return longest * (0.5 + chance / 2)


def jittered_wait_s(failures: int) -> float:
    """:func:`wait_s` by chance."""
    return wait_s(failures, random.random())  # noqa: S311 - spreads load, hides nothing
