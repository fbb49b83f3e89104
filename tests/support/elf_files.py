"""Small ELF files that name libraries: enough for who reads headers, not for running."""

from __future__ import annotations

import struct


def elf_file(
    *needed: bytes,
    interpreter: bytes = b"",
    filler: bytes = b"",
    wide: bool = True,
    order: str = "<",
) -> bytes:
    """A file that needs libraries; its dynamic section lies behind ``filler``.

    Args:
        needed: names of the libraries.
        interpreter: path of its interpreter, if it has one.
        filler: what else is in the file.
        wide: 64 bits, else 32.
        order: ``<`` little endian, ``>`` big endian.
    """
    word = "Q" if wide else "I"
    base = 0x10000
    names = b"\0" + b"".join(name + b"\0" for name in needed)
    header = 64 if wide else 52
    segment = 56 if wide else 32
    text_at = header + 3 * segment
    strings = interpreter + b"\0" + names
    dynamic_at = text_at + len(strings) + len(filler)
    entries, place = [], 1
    for name in needed:
        entries.append((1, place))
        place += len(name) + 1
    entries += [(5, base + text_at + len(interpreter) + 1), (0, 0)]
    dynamic = b"".join(struct.pack(f"{order}{word}{word}", *entry) for entry in entries)
    size = dynamic_at + len(dynamic)
    segments = [
        _segment(order, 1, 0, base, size, wide=wide),
        _segment(order, 3 if interpreter else 4, text_at, 0, len(interpreter) + 1, wide=wide),
        _segment(order, 2, dynamic_at, base + dynamic_at, len(dynamic), wide=wide),
    ]
    head = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    head += struct.pack(f"{order}HHI", 3, 62, 1)
    head += struct.pack(f"{order}3{word}", 0, header, 0)
    head += struct.pack(f"{order}IHHHHHH", 0, header, segment, 3, 0, 0, 0)
    assert len(head) == header
    return head + b"".join(segments) + strings + filler + dynamic


def _segment(order: str, kind: int, offset: int, address: int, length: int, *, wide: bool) -> bytes:
    if wide:
        return struct.pack(f"{order}IIQQQQQQ", kind, 0, offset, address, 0, length, length, 1)
    return struct.pack(f"{order}IIIIIIII", kind, offset, address, 0, length, length, 0, 1)
