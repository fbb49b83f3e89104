r"""containerd's filter language, for List. Pure.

::

    selectors := selector ("," selector)*           all must match
    selector  := fieldpath [operator value]         without operator: the field is there
    fieldpath := field ("." field)*
    field     := quoted | [A-Za-z0-9_]+
    operator  := "==" | "!=" | "~="                 ~= searches for a regular expression
    value     := quoted | [^\s,]+
    quoted    := a Go string in "…"; after ~= also between /…/ or |…|

Fields are ``name``, ``parent``, ``kind`` (``view``, ``active``, ``committed``) and
``labels.<label>``, where unquoted dots belong to the label. Regular expressions are Python's;
those that only Go knows (``\z``, ``[[:alpha:]]``) are refused rather than misread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from snapshotter.model import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snapshotter.model import Info

Operator = Literal["==", "!=", "~="]

MAX_SHOWN = 200
"""Characters of a filter that a message shows."""

_SPACE = re.compile(r"\s*")
_FIELD = re.compile(r"[A-Za-z0-9_]+")
_OPERATOR = re.compile(r"==|!=|~=")
_VALUE = re.compile(r"[^\s,]+")
_ESCAPE = re.compile(
    rb"\\(?:([abfnrtv\\])|([0-3][0-7]{2})|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))"
)
_SIMPLE_ESCAPES = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b"\\": b"\\",
}


@dataclass(frozen=True, slots=True)
class Selector:
    """One condition on one field.

    Attributes:
        path: the field; for a label its name is all parts but the first, joined by dots.
        operator: how to compare; None asks whether the field is there.
        value: what to compare with; a regular expression after ``~=``.
    """

    path: tuple[str, ...]
    operator: Operator | None = None
    value: str = ""

    def matches(self, info: Info) -> bool:
        """Tell whether a snapshot meets the condition; a missing field equals nothing."""
        actual = _field(info, self.path)
        match self.operator:
            case None:
                return actual is not None
            case "==":
                return actual == self.value
            case "!=":
                return actual != self.value
            case "~=":
                return re.search(self.value, actual or "") is not None


def parse_filter(text: str) -> tuple[Selector, ...]:
    """Read one filter; the empty one has no condition.

    Raises:
        InvalidArgument: it is malformed; the message says where.
    """
    return _Parser(text).selectors() if text else ()


def parse_filters(texts: Sequence[str]) -> Callable[[Info], bool]:
    """Read filters into one predicate: a snapshot matches when it meets all of any filter.

    No filter at all matches everything.

    Raises:
        InvalidArgument: one is malformed.
    """
    filters = [parse_filter(text) for text in texts]
    return lambda info: (
        not filters or any(all(one.matches(info) for one in each) for each in filters)
    )


def _field(info: Info, path: tuple[str, ...]) -> str | None:
    match path[0]:
        case "name":
            return info.name
        case "parent":
            return info.parent
        case "kind":
            return info.kind.name.lower()
        case "labels":
            return info.labels.get(".".join(path[1:]))
    return None


class _Parser:
    """One pass over one filter."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def selectors(self) -> tuple[Selector, ...]:
        found = [self._selector()]
        while self._peek() == ",":
            self._at += 1
            found.append(self._selector())
        if self._peek():
            raise self._error("expected ',' or the end")
        return tuple(found)

    def _selector(self) -> Selector:
        path = [self._part()]
        while self._peek() == ".":
            self._at += 1
            path.append(self._part())
        operator = self._operator()
        if operator is None:
            return Selector(tuple(path))
        value = self._value(also_quotes="/|" if operator == "~=" else "")
        if operator == "~=":
            self._check_regex(value)
        return Selector(tuple(path), operator, value)

    def _part(self) -> str:
        return self._quoted() if self._peek() == '"' else self._take(_FIELD, "a field")

    def _operator(self) -> Operator | None:
        if self._peek() in ("", ","):
            return None
        match self._take(_OPERATOR, "one of == != ~="):
            case "==":
                return "=="
            case "!=":
                return "!="
            case _:
                return "~="

    def _value(self, also_quotes: str) -> str:
        following = self._peek()
        if following and following in '"' + also_quotes:
            return self._quoted()
        return self._take(_VALUE, "a value")

    def _quoted(self) -> str:
        """Read a quoted string; the quote character is the next one."""
        quote, start = self._text[self._at], self._at + 1
        end = start
        while end < len(self._text) and self._text[end] not in (quote, "\n"):
            end += 2 if self._text[end] == "\\" else 1
        if end >= len(self._text) or self._text[end] != quote:
            raise self._error("quoted text has no end")
        try:
            value = _unescape(self._text[start:end], quote)
        except (ValueError, OverflowError) as error:  # the latter from \Uffffffff
            raise self._error(f"quoted text has a bad escape: {error}") from error
        self._at = end + 1
        return value

    def _check_regex(self, value: str) -> None:
        if "[[:" in value:
            raise self._error("classes like [[:alpha:]] are not supported")
        try:
            re.compile(value)
        except RecursionError as error:
            raise self._error("a regular expression that is nested too deeply") from error
        except (re.error, OverflowError) as error:
            raise self._error(f"not a regular expression: {error}") from error

    def _peek(self) -> str:
        """Skip white space and give the next character, empty at the end."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str], what: str) -> str:
        self._peek()
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._error(f"expected {what}")
        self._at = found.end()
        return found[0]

    def _error(self, problem: str) -> InvalidArgument:
        shown = self._text if len(self._text) <= MAX_SHOWN else f"{self._text[:MAX_SHOWN]}…"
        return InvalidArgument(f"filter {shown!r}, character {self._at + 1}: {problem}")


def _unescape(text: str, quote: str) -> str:
    r"""Undo the escapes of a Go string; ``\x`` and octal ones are bytes of its UTF-8."""
    escaped_quote = b"\\" + quote.encode()
    result, data, at = bytearray(), text.encode(), 0
    while at < len(data):
        if data[at] != ord("\\"):
            result.append(data[at])
            at += 1
        elif data.startswith(escaped_quote, at):
            result += quote.encode()
            at += len(escaped_quote)
        else:
            found = _ESCAPE.match(data, at)
            if found is None:
                raise ValueError(data[at : at + 2].decode(errors="replace"))
            result += _escaped(found)
            at = found.end()
    return result.decode()


def _escaped(found: re.Match[bytes]) -> bytes:
    simple, octal, byte, short, long = found.groups()
    if simple is not None:
        return _SIMPLE_ESCAPES[simple]
    if octal is not None:
        return bytes([int(octal, 8)])
    if byte is not None:
        return bytes([int(byte, 16)])
    return chr(int(short or long, 16)).encode()
