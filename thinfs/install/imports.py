"""One entry in the ``imports`` of a containerd configuration, put in and taken out again.

The text is edited, never written anew: comments, order and spacing stay. Each edit is checked by
parsing both texts: they must differ by our entry and by nothing else.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from thinfs.errors import FormatError, UsageError

if TYPE_CHECKING:
    from pathlib import PurePosixPath

ENTRY = "conf.d/thinfs.toml"
"""Relative to the importing file, which every containerd that knows ``imports`` understands."""

_QUOTED = f'"{ENTRY}"'
_MARK = "# added by thinfs install"
_ARRAY = re.compile(r"""(?m)^[ \t]*(?:imports|"imports"|'imports')[ \t]*=[ \t]*\[""")
_OURS = re.compile(re.escape(_QUOTED) + r"(?:[ \t]*,[ \t]*)?")
_OUR_LINE = re.compile(
    rf"(?m)^imports = \[{re.escape(_QUOTED)}\] {re.escape(_MARK)}[^\n]*(?:\n|\Z)"
)
_VERSION_LINE = re.compile(r"(?m)^[ \t]*version[ \t]*=[^\n]*\n")


def parse(text: str, where: str) -> dict[str, Any]:
    """Read a containerd configuration.

    Raises:
        FormatError: it is not TOML; the message names ``where`` and the place in it.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FormatError(f"{where} is not valid TOML: {error}") from error


def imports_of(config: dict[str, Any]) -> list[Any]:
    """The ``imports`` of a parsed configuration, empty when it has none."""
    imports = config.get("imports", [])
    return imports if isinstance(imports, list) else []


def covers(imports: list[Any], directory: PurePosixPath) -> bool:
    """Whether these imports read our file already.

    Relative patterns do not count: containerd 1.6 looks for them in its working directory.

    Args:
        imports: as configured.
        directory: where the importing file is, as containerd sees it.
    """
    target = directory / ENTRY
    for each in imports:
        if not isinstance(each, str):
            continue
        if directory / each == target or (each.startswith("/") and target.match(each)):
            return True
    return False


def with_entry(text: str, where: str) -> str:
    """Add our entry.

    Raises:
        FormatError: ``text`` is not TOML.
        UsageError: its ``imports`` are written in a way that cannot be edited safely.
    """
    before = parse(text, where)
    wanted = before | {"imports": [ENTRY, *imports_of(before)]}
    for candidate in _candidates(text, before):
        if _parses_to(candidate, wanted):
            return candidate
    raise UsageError(f"cannot edit imports in {where}; add {_QUOTED} to it by hand")


def without_entry(text: str, where: str) -> str:
    """Take our entry out again; text without it is returned as it is.

    Raises:
        FormatError: ``text`` is not TOML.
        UsageError: the entry is written in a way that cannot be edited safely.
    """
    before = parse(text, where)
    if ENTRY not in imports_of(before):
        return text
    wanted = before | {"imports": [each for each in imports_of(before) if each != ENTRY]}
    unset = {key: value for key, value in before.items() if key != "imports"}
    for candidate, expected in (
        (_OUR_LINE.sub("", text, count=1), unset),
        (_OURS.sub("", text, count=1), wanted),
    ):
        if _parses_to(candidate, expected):
            return candidate
    raise UsageError(f"cannot edit imports in {where}; remove {_QUOTED} from it by hand")


def _candidates(text: str, before: dict[str, Any]) -> list[str]:
    """Texts that may hold the entry, the most pleasant first."""
    if "imports" in before:
        separator = ", " if imports_of(before) else ""
        ends = [array.end() for array in _ARRAY.finditer(text)]
        return [text[:end] + _QUOTED + separator + text[end:] for end in ends]
    line = f"imports = [{_QUOTED}] {_MARK}" + ("\r\n" if "\r\n" in text else "\n")
    ends = [version.end() for version in _VERSION_LINE.finditer(text)]
    return [text[:end] + line + text[end:] for end in [*ends, 0]]


def _parses_to(text: str, expected: dict[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        return False
