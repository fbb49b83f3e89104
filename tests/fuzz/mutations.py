"""Small changes of inputs, some of which know what they change. Pure, given the randomness."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from random import Random

MAX_INPUT_BYTES: Final = 1 << 16
"""Longer inputs are cut: what they find is slow to look at, and shorter ones find it too."""

TOKENS: Final = (
    *(b"\0", b"\xff", b"\n", b"..", b"/", b"%00", b"[", b"{", b'"', b"\\ud800", b"-1", b"1e999"),
    *(b"0" * 40, b"9" * 25, b"a" * 300, b"\xc3\xa9", b"\xed\xb0\x80", b"http://[", b"@", b"://"),
)
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**64, 2**80, 1.5, "", "a", "\0", "..", "sha256:", "\n"),
    *([], {}, [[]], [0, 0], {"a": 1}, "/etc/passwd", "é", "x" * 5000),
)


def mutated(random: Random, data: bytes, other: bytes) -> bytes:
    """One to four changes of ``data``, some of them pieces of ``other``."""
    data = data[:MAX_INPUT_BYTES]
    if random.random() < 0.5 and (changed := _json(random, data)) is not None:
        return changed
    for _ in range(random.randint(1, 4)):
        data = _changed(random, data, other)
    return _with_checksums(data) if random.random() < 0.8 else data


def _changed(random: Random, data: bytes, other: bytes) -> bytes:
    start = random.randint(0, len(data))
    end = min(len(data), start + random.choice((0, 1, 1, 2, 8, 12, 512)))
    piece = random.choice(TOKENS)
    match random.randrange(5):
        case 0:
            piece = b""
        case 1:
            piece = random.randbytes(end - start)
        case 2:
            at = random.randint(0, len(other))
            piece = other[at : at + random.choice((4, 40, 512, 1536))]
        case 3:
            piece = data[start:end] * 2
    return data[:start] + piece + data[end:]


def _json(random: Random, data: bytes) -> bytes | None:
    """A document with one value exchanged, left out or given another name; None: it is none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    places = list(_places(document))
    if not places:
        return None
    holder, key = random.choice(places)
    if random.random() < 0.2:
        del holder[key]
    else:
        holder[key] = random.choice(VALUES)
    return json.dumps(document).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value))
    places = [(value, key) for key in keys]
    inner = (value[key] for key in keys if isinstance(value[key], dict | list))
    return places + [place for each in inner for place in _places(each)]


def _with_checksums(data: bytes) -> bytes:
    """The same with a right checksum in each block that looks like a tar header."""
    blocks = [data[at : at + tarfile.BLOCKSIZE] for at in range(0, len(data), tarfile.BLOCKSIZE)]
    return b"".join(map(_with_checksum, blocks))


def _with_checksum(block: bytes) -> bytes:
    if len(block) < tarfile.BLOCKSIZE or block[257:262] != b"ustar":
        return block
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    return block[:148] + b"%06o\0 " % total + block[156:]
