"""The configuration file as it is installed: every field, its meaning and its default.

All fields are comments, so that a later version may choose better defaults. Meanings are the
``Attributes`` of the classes in :mod:`thinfs.config`: there is one place to write them.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from typing import TYPE_CHECKING

import msgspec
import tomli_w

from thinfs.install.stamp import stamped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thinfs.config import Config

WIDTH = 88

_ATTRIBUTE = re.compile(r"(?m)^ {4}(\w+): (.+(?:\n {8}.*)*)")

_ABOUT = """\
# The configuration of thinfs. A line such as "#name = value" shows a default; take the "#" away
# to change it. `thinfs config show` prints what is in force.
"""


def default_config(defaults: Config) -> bytes:
    """The file with every field of ``defaults`` as a comment."""
    sections = (
        _section(name, getattr(defaults, name))
        for name in (field.name for field in _fields(defaults))
    )
    return stamped("\n".join([_ABOUT, *sections]))


def _section(name: str, section: msgspec.Struct) -> str:
    lines = [*_comment(_summary(section)), f"[{name}]"]
    meanings = dict(_ATTRIBUTE.findall(inspect.getdoc(type(section)) or ""))
    for field in _fields(section):
        lines += _comment(" ".join(meanings[field.name].split()))
        lines += [f"#{field.name} = {_value(getattr(section, field.name))}", ""]
    return "\n".join(lines)


def _value(value: object) -> str:
    """A value on one line; a list of strings is written alike in JSON and in TOML."""
    if isinstance(value, list):
        return json.dumps(value)
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def _summary(section: msgspec.Struct) -> str:
    first = (inspect.getdoc(type(section)) or "").partition("\n")[0]
    return first.partition(": ")[2] or first


def _comment(text: str) -> Iterator[str]:
    sentence = text[:1].upper() + text[1:]
    return (f"# {line}" for line in textwrap.wrap(sentence, WIDTH))


def _fields(struct: msgspec.Struct) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(type(struct))
