"""From a layer's tar stream to entries: what each tar member says about the tree.

Rules are those of the OCI image spec (layer.md) and, where it is silent, what containerd's
``archive.Apply`` does. Reading the format itself is ``tarfile``'s: ustar, pax and GNU, long
names, sparse files. Times and xattrs are read from the pax records, where they are exact.
"""

from __future__ import annotations

import stat
import tarfile
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from catalog.model import Entry, EntryKind, Xattrs
from thinfs.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO, Self

    from thinfs.convert.pipe import LayerPipe

WHITEOUT_PREFIX = b".wh."
WHITEOUT_META_PREFIX = b".wh..wh."
OPAQUE_NAME = b".wh..wh..opq"
XATTR_RECORD = "SCHILY.xattr."
MAX_FILE_BYTES = 1 << 40
"""Largest regular file: a sparse member of a few bytes can claim any size."""
MAX_PAX_BYTES = 1 << 20
"""Longest pax or GNU long-name header: each is read into memory."""
READ_BYTES = 1 << 20
MAX_SHOWN_BYTES = 200
"""Bytes of a path that a message shows."""

# mode, uid, gid, size, mtime, devmajor, devminor (POSIX ustar)
_NUMBERS = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148), (329, 337), (337, 345))
_NOT_PLAIN = frozenset({tarfile.GNUTYPE_SPARSE})
_DEVICES = frozenset({tarfile.CHRTYPE, tarfile.BLKTYPE})
_NANOSECONDS = 1_000_000_000
_PERMISSIONS = 0o7777
_TYPES = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.AREGTYPE: stat.S_IFREG,
    tarfile.CONTTYPE: stat.S_IFREG,
    tarfile.GNUTYPE_SPARSE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


@dataclass(frozen=True, slots=True)
class Member:
    """What one tar member says, and for a regular file with bytes the way to read them.

    Attributes:
        path: as :attr:`catalog.model.Entry.path`.
        build: makes the entry; takes ``content``, which only the reader of the body can know.
        size: bytes of the body, 0 when there is none.
        body: the blocks of the body, at most 1 MiB each; read before the next member.
    """

    path: bytes
    build: Callable[..., Entry]
    size: int = 0
    body: Iterable[bytes] = ()

    def entry(self, content: bytes | None = None) -> Entry:
        """The entry, complete: with the body's digest exactly when there is a body."""
        return self.build(content=content)


class _LayerTarInfo(tarfile.TarInfo):
    """A header as layers have them: read fast, and without unbounded memory for extensions."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one header block.

        Takes plain headers apart itself, which is three times as fast as ``tarfile``'s own way
        (docs/performance.md); whatever is not plain is left to ``tarfile``.
        """
        if len(buf) != tarfile.BLOCKSIZE or buf[257:262] != b"ustar":
            return super().frombuf(buf, encoding, errors)
        try:
            kind = bytes(buf[156:157])
            checksum = int(buf[148:156].rstrip(b" \0"), 8)
            numbers = [int(buf[a:b].strip(b" \0") or b"0", 8) for a, b in _NUMBERS]
        except ValueError:
            return super().frombuf(buf, encoding, errors)
        # the checksum counts its own field as blanks; old writers summed signed bytes
        if sum(buf) - sum(buf[148:156]) + 8 * 32 != checksum or kind in _NOT_PLAIN:
            return super().frombuf(buf, encoding, errors)
        info = cls(_text(buf[:100], encoding, errors))
        info.mode, info.uid, info.gid, info.size, info.mtime, info.chksum = *numbers[:5], checksum
        info.type = kind
        info.linkname = _text(buf[157:257], encoding, errors)
        info.uname = info.gname = ""  # names mean nothing on another machine
        if kind in _DEVICES:
            info.devmajor, info.devminor = numbers[5:]
        prefix = _text(buf[345:500], encoding, errors)
        if kind == tarfile.AREGTYPE and info.name.endswith("/"):
            info.type = tarfile.DIRTYPE
        if info.isdir():
            info.name = info.name.rstrip("/")
        if prefix and buf[257:263] == tarfile.POSIX_MAGIC[:6]:  # GNU keeps other things there
            info.name = f"{prefix}/{info.name}"
        return info

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        extension = self.type in {
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        }
        if extension and not 0 <= self.size <= MAX_PAX_BYTES:
            raise FormatError(f"a tar extension header of {self.size} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc,no-any-return] # typeshed hides it


def members(pipe: LayerPipe) -> Iterator[Member]:
    """Read a layer member by member.

    Every member's body is read or skipped before the next member is asked for.

    Raises:
        FormatError: it is no tar stream, is cut short, or says something no layer may say.
    """
    source: IO[bytes] = pipe  # type: ignore[assignment] # the part of a file that tarfile uses
    try:
        with tarfile.TarFile.open(
            fileobj=source,
            mode="r:",
            tarinfo=_LayerTarInfo,
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # tarfile keeps them all: memory would grow with the layer
                member = _member(tar, info, pipe)
                if member is not None:
                    yield member
    except tarfile.TarError as error:
        if pipe.tell() == 0:
            return  # an empty layer: not one byte
        raise FormatError(f"damaged tar stream: {error}") from error
    except (ValueError, OverflowError) as error:  # what tarfile lets through from bad numbers
        raise FormatError(f"damaged tar stream: {error}") from error


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo, pipe: LayerPipe) -> Member | None:
    path = clean_path(_bytes(info.name))
    folder, _, name = path.rpartition(b"/")
    if name.startswith(WHITEOUT_PREFIX):
        return _whiteout(folder, name)
    if info.type == tarfile.LNKTYPE:
        target = clean_path(_bytes(info.linkname))
        return Member(path, partial(Entry, path, EntryKind.HARDLINK, target=target))
    kind = _TYPES.get(info.type)
    if kind is None:
        raise FormatError(f"{show(path)}: unknown tar member type {info.type!r}")
    size = info.size if kind == stat.S_IFREG else 0
    if not 0 <= size <= MAX_FILE_BYTES:
        raise FormatError(f"{show(path)}: a size of {size} bytes")
    build = partial(
        Entry,
        path,
        mode=kind | (info.mode & _PERMISSIONS),
        uid=info.uid,
        gid=info.gid,
        mtime_ns=_mtime_ns(info),
        size=size,
        target=_bytes(info.linkname) if kind == stat.S_IFLNK else b"",
        rdev=(info.devmajor, info.devminor) if kind in {stat.S_IFCHR, stat.S_IFBLK} else (0, 0),
        xattrs=_xattrs(info),
    )
    return Member(path, build, size, _body(tar, info, pipe))


def _whiteout(folder: bytes, name: bytes) -> Member | None:
    if name == OPAQUE_NAME:
        return Member(folder, partial(Entry, folder, EntryKind.OPAQUE))
    if name.startswith(WHITEOUT_META_PREFIX):
        return None  # AUFS's own bookkeeping, which every implementation passes over
    hidden = name.removeprefix(WHITEOUT_PREFIX)
    if hidden in {b"", b".", b".."}:
        raise FormatError(f"{show(folder)}: a whiteout of {show(hidden)!r}")
    path = folder + b"/" + hidden if folder else hidden
    return Member(path, partial(Entry, path, EntryKind.WHITEOUT))


def _body(tar: tarfile.TarFile, info: tarfile.TarInfo, pipe: LayerPipe) -> Iterator[bytes]:
    if info.sparse is not None:
        file = tar.extractfile(info)
        while file is not None and (block := file.read(READ_BYTES)):
            yield block
        return
    pipe.seek(info.offset_data)
    missing = info.size
    while missing:
        block = pipe.read(min(missing, READ_BYTES))
        if not block:
            raise FormatError(f"{show(_bytes(info.name))}: the tar stream ends in the middle of it")
        missing -= len(block)
        yield block


def clean_path(raw: bytes) -> bytes:
    """Bring a tar name into the form of :attr:`catalog.model.Entry.path`.

    Leading slashes and ``./`` are dropped and ``..`` is resolved as text, as containerd does.

    Raises:
        FormatError: the name leaves the layer, or holds a NUL.
    """
    if b"\0" in raw:
        raise FormatError(f"{show(raw)}: a NUL in a name")
    if not (b".." in raw or b"./" in raw or b"//" in raw or raw[-1:] in {b"/", b"."}):
        return raw.removeprefix(b"/")
    parts: list[bytes] = []
    for part in raw.split(b"/"):
        if part == b"..":
            if not parts:
                raise FormatError(f"{show(raw)}: the name leads out of the layer")
            parts.pop()
        elif part not in {b"", b"."}:
            parts.append(part)
    return b"/".join(parts)


def show(path: bytes) -> str:
    """A path for a message: one line, whatever its bytes, and not without end."""
    shown = path[:MAX_SHOWN_BYTES].decode("utf-8", "backslashreplace")
    rest = "..." if len(path) > MAX_SHOWN_BYTES else ""
    return shown.encode("unicode_escape").decode("ascii") + rest


def _text(field: bytes | bytearray, encoding: str, errors: str) -> str:
    return field.partition(b"\0")[0].decode(encoding, errors)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _xattrs(info: tarfile.TarInfo) -> Xattrs:
    if not info.pax_headers:
        return ()
    return tuple(
        sorted(
            (_bytes(key[len(XATTR_RECORD) :]), _bytes(value))
            for key, value in info.pax_headers.items()
            if key.startswith(XATTR_RECORD)
        )
    )


def _mtime_ns(info: tarfile.TarInfo) -> int:
    text = info.pax_headers.get("mtime")
    if text is None:
        return int(info.mtime) * _NANOSECONDS
    return parse_time(text)


def parse_time(text: str) -> int:
    """Read a pax time, seconds with an optional fraction, as nanoseconds without rounding.

    Raises:
        FormatError: it is no decimal number, or outside 64-bit nanoseconds' seconds.
    """
    negative = text.startswith("-")
    whole, _, fraction = text.removeprefix("-").partition(".")
    if not (whole.isascii() and whole.isdigit() and len(whole) <= 12) or not (
        fraction == "" or (fraction.isascii() and fraction.isdigit())
    ):
        raise FormatError(f"a modification time of {text!r}")
    value = int(whole) * _NANOSECONDS + int((fraction + "0" * 9)[:9])
    return -value if negative else value
