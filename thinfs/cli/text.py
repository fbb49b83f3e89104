"""Text of others on the user's terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """One line without control characters: names come from images, and terminals obey."""
    words = " ".join(text.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words)
