"""Quantities as people read them."""

from __future__ import annotations

_KILO = 1000


def amount(value: float, unit: str) -> str:
    """A quantity with its unit.

    Args:
        value: in ``unit``.
        unit: ``s``, ``B`` (decimal multiples, as links are rated) or empty for a count.
    """
    if unit == "s":
        return duration(value)
    if unit == "B":
        return size(value)
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """``0.29 s``, ``12.3 s``, ``4.1 ms``."""
    if abs(seconds) < 0.0995:
        return f"{seconds * _KILO:.1f} ms"
    return f"{seconds:.2f} s" if abs(seconds) < 99.5 else f"{seconds:.0f} s"


def size(count: float) -> str:
    """``812 B``, ``10.1 MB``."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KILO
    return f"{count:.2f} GB"
