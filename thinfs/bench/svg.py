"""Drawing with SVG: elements, scales, ticks, and bars that do not overlap. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Box = tuple[float, float, float, float]
"""Left, top, width, height."""

_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
CHAR_PX: Final = 7.0
"""Width of a character of a path in the charts' font, with some air: browsers differ."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels.

    Attributes:
        first: the value at ``left``.
        last: the value at ``right``; more than ``first``.
        left: pixel.
        right: pixel.
    """

    first: float
    last: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        """The pixel of a value; values outside are clipped."""
        value = min(max(value, self.first), self.last)
        part = (value - self.first) / (self.last - self.first)
        return self.left + part * (self.right - self.left)


def element(tag: str, *content: str, **attributes: str | float) -> str:
    """One element; attribute names with ``_`` for ``-``, and ``class_``.

    Args:
        tag: its name.
        content: markup, as it is.
        attributes: values are escaped; numbers get one decimal.
    """
    text = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for name, value in attributes.items()
    )
    inner = "".join(content)
    return f"<{tag}{text}>{inner}</{tag}>" if inner else f"<{tag}{text}/>"


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> str:
    """A line of text at its baseline; ``words`` is escaped."""
    return element("text", escape(words), x=x, y=y, class_=class_, text_anchor=anchor)


def bar(box: Box, class_: str, title: str) -> str:
    """A bar that is visible however short, with a tooltip."""
    x, y, width, height = box
    return element(
        "rect",
        element("title", escape(title)),
        x=x,
        y=y,
        width=max(width, 1.0),
        height=height,
        class_=class_,
    )


def ticks(last: float, most: int) -> list[float]:
    """Round values from 0 to at most ``last``, at most ``most`` of them and 0."""
    if last <= 0:
        return [0.0]
    rough = last / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in _STEPS if each * power >= rough * 0.999_999)
    return [index * step for index in range(int(last / step + 1e-9) + 1)]


def packed(spans: Sequence[tuple[float, float]], gap: float) -> list[int]:
    """A row for each span, so that none overlaps another of its row.

    Args:
        spans: (begin, end), ascending by begin.
        gap: least distance of two spans in a row.
    """
    ends: list[float] = []
    rows = []
    for begin, end in spans:
        row = next((at for at, last in enumerate(ends) if last + gap <= begin), len(ends))
        if row == len(ends):
            ends.append(end)
        else:
            ends[row] = end
        rows.append(row)
    return rows


def shortened(words: str, width: float) -> str:
    """``words`` without its middle, where it is wider than ``width`` pixels."""
    most = max(int(width / CHAR_PX), 5)
    if len(words) <= most:
        return words
    head = (most - 1) // 3
    return f"{words[:head]}…{words[len(words) - (most - 1 - head) :]}"


def shortened_path(path: str, width: float) -> str:
    """The end of a path; of a last name that is too wide itself, no middle."""
    most = max(int(width / CHAR_PX), 5)
    if len(path) <= most:
        return path
    name = path.rpartition("/")[2]
    if len(name) + 2 <= most:
        return f"…{path[len(path) - most + 1 :]}"
    tail = (most - 3) // 3
    return f"…/{name[: most - 3 - tail]}…{name[len(name) - tail :]}"


def polyline(points: Iterable[tuple[float, float]], class_: str, **attributes: str) -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", points=path, class_=class_, **attributes)


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
