"""The configuration as a TOML file that explains itself.

The explanations are the docstrings of ``thinfs.config``: there is no second text to keep true.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any, Final

import msgspec
import tomli_w

if TYPE_CHECKING:
    from thinfs.config import Config

WIDTH: Final = 96

_FIELD: Final = re.compile(r"(?P<name>\w+): (?P<text>.*)", re.DOTALL)


def documentation(section: type[Any]) -> tuple[str, dict[str, str]]:
    """What a section's docstring says: of the section, and of each of its fields."""
    summary, _, attributes = inspect.cleandoc(section.__doc__ or "").partition("Attributes:\n")
    fields = {}
    for block in re.split(r"\n(?=\S)", inspect.cleandoc("\n" + attributes)):
        match = _FIELD.fullmatch(block.strip())
        if match:
            fields[match["name"]] = " ".join(match["text"].split())
    return " ".join(summary.split()), fields


def render(config: Config) -> str:
    """The configuration as TOML, every field behind a comment that explains it."""
    blocks = []
    for name in config.__struct_fields__:
        section = getattr(config, name)
        summary, fields = documentation(type(section))
        values = msgspec.to_builtins(section)
        lines = [_comment(summary.removeprefix(f"[{name}]: ")), f"[{name}]"]
        for field, value in values.items():
            lines += ["", _comment(fields.get(field, "")), tomli_w.dumps({field: value}).rstrip()]
        blocks.append("\n".join(lines))
    return "\n\n\n".join(blocks) + "\n"


def _comment(text: str) -> str:
    lines = textwrap.wrap(text[:1].upper() + text[1:], WIDTH)
    return "\n".join(f"# {line}" for line in lines)
