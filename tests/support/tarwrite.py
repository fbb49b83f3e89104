"""Layers written entry by entry with pax headers, also entries that no tool would write."""

from __future__ import annotations

import io
import tarfile
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

# As GNU tar, bsdtar, containerd and umoci write extended attributes.
XATTR_PREFIX = "SCHILY.xattr."
_NS = 1_000_000_000


class LayerTar:
    """Writes one layer; use it as a context manager.

    Names and link targets are bytes. Times are nanoseconds since 1970.
    """

    def __init__(self, target: IO[bytes]) -> None:
        self._tar = tarfile.open(  # noqa: SIM115 - closed by __exit__
            fileobj=target,
            mode="w",
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def add(
        self,
        name: bytes,
        kind: bytes = tarfile.REGTYPE,
        *,
        data: bytes = b"",
        mode: int | None = None,
        uid: int = 0,
        gid: int = 0,
        mtime_ns: int = 1_600_000_000 * _NS,
        target: bytes = b"",
        device: tuple[int, int] = (0, 0),
        xattrs: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write one entry.

        Args:
            name: path in the image.
            kind: a type of :mod:`tarfile`.
            data: body of a regular file.
            mode: permission bits with setuid, setgid, sticky; 0755 for directories, else 0644.
            uid: owner.
            gid: group.
            mtime_ns: time of modification.
            target: of a symbolic or hard link.
            device: major and minor.
            xattrs: by full name.
        """
        info = tarfile.TarInfo(_text(name))
        info.type = kind
        info.size = len(data)
        info.mode = mode if mode is not None else (0o755 if kind == tarfile.DIRTYPE else 0o644)
        info.uid, info.gid = uid, gid
        info.mtime = mtime_ns // _NS
        info.linkname = _text(target)
        info.devmajor, info.devminor = device
        records = {XATTR_PREFIX + key: _text(value) for key, value in (xattrs or {}).items()}
        if mtime_ns % _NS:
            records["mtime"] = f"{mtime_ns // _NS}.{mtime_ns % _NS:09}"
        info.pax_headers = records
        self._tar.addfile(info, io.BytesIO(data))

    def add_sparse(self, name: bytes, size: int, runs: Mapping[int, bytes]) -> None:
        """Write a file of ``size`` bytes that is zero but for ``runs`` (offset → bytes).

        GNU's sparse format 1.0 in pax headers: the map stands before the data, in decimal.
        """
        numbers = [len(runs), *(n for offset, run in runs.items() for n in (offset, len(run)))]
        table = "".join(f"{number}\n" for number in numbers).encode()
        table += bytes(-len(table) % tarfile.BLOCKSIZE)
        body = table + b"".join(runs.values())
        info = tarfile.TarInfo(f"GNUSparseFile.0/{_text(name).rpartition('/')[2]}")
        info.size = len(body)
        info.mtime = 1_600_000_000
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": _text(name),
            "GNU.sparse.realsize": str(size),
        }
        self._tar.addfile(info, io.BytesIO(body))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()


def _text(value: bytes) -> str:
    """tarfile wants text; with surrogateescape any bytes go through it and come out the same."""
    return value.decode("utf-8", "surrogateescape")
