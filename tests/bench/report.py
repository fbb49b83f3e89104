"""What a benchmark answers with, checked, as a table and as ``.bench/results.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Values = dict[str, Any]
"""One figure as a benchmark gives it: the fields of :class:`Row`."""

_HEAD = ("name", "value", "unit", "reference", "ratio", "goal", "met")


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measured figure.

    Attributes:
        name: begins with what it is about: ``convert.``, ``catalog.``, ``cold.`` …
        value: the figure.
        unit: of value and reference.
        reference: the same figure of what it is compared with, measured in the same call.
        ratio: value to reference, in the direction that the name says.
        goal: what value or ratio has to reach; ``None`` when the figure is only watched.
        met: whether it does.
    """

    name: str
    value: float
    unit: str
    reference: float | str | None = None
    ratio: float | None = None
    goal: float | str | None = None
    met: bool | None = None


def rows(values: Iterable[dict[str, Any]]) -> list[Row]:
    """Check what a benchmark gave.

    Raises:
        msgspec.ValidationError: a field is missing, unknown or of another type.
    """
    return [msgspec.convert(value, Row) for value in values]


def asked(name: str, prefixes: Sequence[str]) -> bool:
    """Whether figures whose names begin with ``name`` are among those with one of the prefixes."""
    return not prefixes or any(
        name.startswith(prefix) or prefix.startswith(name) for prefix in prefixes
    )


def figure(
    name: str,
    value: float,
    unit: str,
    reference: float | None = None,
    most: float | None = None,
) -> Values:
    """A figure beside its reference.

    Args:
        name: of the figure.
        value: measured.
        unit: of value and reference.
        reference: what it is compared with.
        most: the largest ratio of both that is good enough.
    """
    found: Values = {"name": name, "value": round(value, 3), "unit": unit}
    if reference is not None:
        found |= {"reference": round(reference, 3), "ratio": round(value / reference, 3)}
        if most is not None:
            found |= {"goal": most, "met": value / reference <= most}
    return found


def bounded(
    name: str, value: float, unit: str, most: float, reference: float | None = None
) -> Values:
    """A figure that has a bound of its own, whatever its reference is."""
    return {**figure(name, value, unit, reference), "goal": most, "met": value <= most}


def at_least(name: str, value: float, unit: str, reference: float, least: float) -> Values:
    """A figure whose ratio to its reference has to reach a least value."""
    ratio = value / reference
    return {**figure(name, value, unit, reference), "goal": least, "met": ratio >= least}


def table(found: Sequence[Row]) -> str:
    """Aligned columns, for people."""
    lines = [_HEAD, *(tuple(_shown(getattr(row, name)) for name in _HEAD) for row in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column in {0, 2} else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Results of an earlier call, with those measured now in their place; by name."""
    by_name = {row.name: row for row in (*old, *new)}
    return [by_name[name] for name in sorted(by_name)]


def write(found: Sequence[Row], file: Path) -> None:
    """Replace the results file; figures of other benchmarks stay in it."""
    old = msgspec.json.decode(file.read_bytes(), type=list[Row]) if file.exists() else []
    file.parent.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(merged(old, found)), indent=2)
    fresh = file.with_suffix(".new")
    fresh.write_bytes(text + b"\n")
    fresh.replace(file)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
