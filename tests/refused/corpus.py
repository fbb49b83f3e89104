"""The corpus: ``<family>.toml`` says of each file in ``<family>/`` how it is refused.

::

    ["too-many-layers.json"]
    error = "FormatError"
    message = "thin.json is not a recipe: …"    # {place} stands for the folder of the test
    media_type = "…"                            # and whatever else the family's door reads

A large input has no file but ``parts``: pairs of a text and how often it is repeated, with
``pack = "gzip"`` or ``"zstd"`` when they are to be compressed.
"""

from __future__ import annotations

import gzip
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zstandard

FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Case:
    """One input and what its user sees.

    Attributes:
        family: which door it goes through.
        name: its file, or what it is called.
        error: name of the class.
        message: the whole text.
        options: the rest of its table.
    """

    family: str
    name: str
    error: str
    message: str
    options: dict[str, Any]

    def data(self) -> bytes:
        """The bytes."""
        parts = self.options.get("parts")
        if parts is None:
            return (FOLDER / self.family / self.name).read_bytes()
        made = b"".join(text.encode() * count for text, count in parts)
        match self.options.get("pack"):
            case "gzip":
                return gzip.compress(made, 9, mtime=0)
            case "zstd":
                return zstandard.compress(made, 3)
        return made


def cases(family: str) -> list[Case]:
    """All cases of one family."""
    tables = tomllib.loads((FOLDER / f"{family}.toml").read_text("utf-8"))
    return [
        Case(family, name, table.pop("error"), table.pop("message"), table)
        for name, table in tables.items()
    ]


def families() -> list[str]:
    """The families there are, by their tables."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))
