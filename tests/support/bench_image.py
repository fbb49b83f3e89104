"""A small image that can do what containers are waited for: speak, listen, serve, end."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import needs
from tests.support.layouts import make_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLETS = ("sh", "cat", "sleep", "httpd", "nc", "echo", "false")
READ_BYTES = 3_000_000
"""What ``cat /data/*`` reads; it does not compress."""

READ_FILES = 60
UNREAD_BYTES = 2_000_000
CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["PATH=/bin"], "Cmd": ["sh", "-c", "cat /data/* | cat >/dev/null"]},
}


def bench_image(directory: Path, *, changed: bool = False) -> str:
    """Write the image into a new layout; its name.

    Args:
        directory: of the layout.
        changed: another version of the image, in which one of the files that are read is new.
    """
    data = _data("data", READ_BYTES, READ_FILES, changed=changed)
    layers = [_layer(_programs()), _layer(data)]
    layers.append(_layer(_data("other", UNREAD_BYTES, 10)))
    make_layout(directory, "bench", layers, CONFIG)
    return f"oci:{directory}:bench"


def _programs() -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    busybox = Path(needs.command("busybox", "busybox-static")).read_bytes()
    yield _entry("bin/busybox", 0o755, len(busybox)), busybox
    for name in APPLETS:
        link = _entry(f"bin/{name}", 0o777, 0)
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        yield link, b""
    for name in ("proc", "sys", "dev", "tmp", "www"):
        folder = _entry(name, 0o755, 0)
        folder.type = tarfile.DIRTYPE
        yield folder, b""
    yield _entry("www/index.html", 0o644, 6), b"hello\n"


def _data(
    folder: str, size: int, files: int, *, changed: bool = False
) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    chance, new = random.Random(folder), random.Random("new")
    for number in range(files):
        body = chance.randbytes(size // files)
        if changed and number == 0:
            body = new.randbytes(size // files)
        yield _entry(f"{folder}/{number:03d}", 0o644, size // files), body


def _entry(name: str, mode: int, size: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode, made.size = mode, size
    return made


def _layer(entries: Iterator[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for entry, data in entries:
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()
