"""Finding a digest among numbered, sorted digests with few probes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_KEY_BYTES: Final = 8
_KEYS: Final = 1 << (8 * _KEY_BYTES)
_GUESSES: Final = 4


def position(digest: bytes, count: int, digest_at: Callable[[int], bytes]) -> int | None:
    """The number of ``digest`` among ``1..count``, or ``None``; as quick as :func:`search`."""
    number, found = search(digest, count, digest_at)
    return number if found else None


def search(digest: bytes, count: int, digest_at: Callable[[int], bytes]) -> tuple[int, bool]:
    """Where ``digest`` is among ``1..count``, and whether it is there.

    Digests are evenly spread, so the first probes go where the value should be (about 4 probes
    for a million digests); a catalog that was made to defeat this costs halving on top.

    Returns:
        Its number; if it is not there, that of the first greater one, or ``count + 1``.
    """
    low, high = 1, count
    low_key, high_key = 0, _KEYS
    key = int.from_bytes(digest[:_KEY_BYTES], "big")
    probes = 0
    while low <= high:
        probes += 1
        if probes <= _GUESSES and low_key < high_key:
            middle = low + (high - low) * (key - low_key) // (high_key - low_key)
            middle = min(max(middle, low), high)
        else:
            middle = (low + high) // 2
        found = digest_at(middle)
        if found == digest:
            return middle, True
        found_key = int.from_bytes(found[:_KEY_BYTES], "big")
        if found < digest:
            low, low_key = middle + 1, max(low_key, found_key)
        else:
            high, high_key = middle - 1, min(high_key, found_key)
    return low, False
