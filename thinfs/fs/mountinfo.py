"""What is mounted where, as the kernel lists it in /proc/self/mountinfo."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTINFO: Final = Path("/proc/self/mountinfo")

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One mount.

    Attributes:
        device: major and minor number of the file system.
        mountpoint: absolute path.
        kind: file system type, ``fuse.thinfs`` for ours.
    """

    device: tuple[int, int]
    mountpoint: bytes
    kind: str


def parse(text: bytes) -> list[Mounted]:
    """All mounts, in the order in which they were made (proc(5), "mountinfo")."""
    return [_parse_line(line) for line in text.splitlines()]


def at(mountpoint: Path) -> list[Mounted]:
    """What is mounted at exactly this path, the covering one last.

    The path is compared as it is written: nothing below it is touched, so a mount whose
    server is dead or stuck cannot stop the caller.
    """
    wanted = bytes(mountpoint)
    return [mount for mount in parse(MOUNTINFO.read_bytes()) if mount.mountpoint == wanted]


def _parse_line(line: bytes) -> Mounted:
    left, right = line.split(b" - ", 1)
    fields = left.split(b" ")
    major, minor = fields[2].split(b":")
    return Mounted(
        device=(int(major), int(minor)),
        mountpoint=_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), fields[4]),
        kind=right.split(b" ", 1)[0].decode(),
    )
