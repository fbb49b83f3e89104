"""The files of a repository's directory: which there are, and whether their bytes are right."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Final

import zstandard

from thinfs.errors import FormatError, IntegrityError, MissingError, StoreError
from thinfs.oci.layout import BLOBS
from thinfs.store.boot import MAX_BOOT_BYTES
from thinfs.store.layout import (
    IMAGES_DIRECTORY,
    MAX_CATALOG_BYTES,
    MAX_METADATA_BYTES,
    MAX_OBJECT_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOB_FOLDER: Final = f"{IMAGES_DIRECTORY}/{BLOBS}"
RECORD_FOLDERS: Final = ("layers", "roots", "profiles")
"""What converters believe: goes first, and is never there without what it names."""

FRAME_FOLDERS: Final = ("boots", "metadata", "catalogs", "objects")
FANNED_OUT: Final = frozenset(FRAME_FOLDERS)

MAX_FRAME_CONTENT: Final = {
    "objects": MAX_OBJECT_BYTES,
    "catalogs": MAX_CATALOG_BYTES,
    "metadata": MAX_METADATA_BYTES,
    "boots": MAX_BOOT_BYTES,
}
"""Most uncompressed bytes of the zstd frames in each folder."""

_COPY_BYTES: Final = 1 << 20
_HEADER_BYTES: Final = 18  # largest zstd frame header (RFC 8878, section 3.1.1)
_BLOCK_HEADER_BYTES: Final = 3
_RLE_BLOCK: Final = 1
_CHECKSUM_BYTES: Final = 4
_NAME: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a repository.

    Attributes:
        path: below the repository, with ``/``.
        digest: what its name says, 32 bytes; ``None`` for a name that says nothing.
        size: bytes as stored.
        mtime_s: when it was written, in seconds since 1970.
    """

    path: str
    digest: bytes | None
    size: int
    mtime_s: float

    @property
    def folder(self) -> str:
        """The folder of its kind."""
        return BLOB_FOLDER if self.path.startswith(BLOB_FOLDER) else self.path.partition("/")[0]


def files_in(repository: Path, folder: str) -> Iterator[File]:
    """The regular files of one folder, by name; those that vanish meanwhile are passed over.

    Args:
        repository: its directory.
        folder: one of the folders named in this module.

    Raises:
        StoreError: the folder cannot be read.
    """
    fanned = folder in FANNED_OUT
    try:
        for below in sorted(_directories(repository / folder)) if fanned else [""]:
            at = f"{folder}/{below}" if below else folder
            for name, status in sorted(_regular(repository / at), key=itemgetter(0)):
                known = _NAME.match(name) is not None and name.startswith(below)
                digest = bytes.fromhex(name) if known else None
                yield File(f"{at}/{name}", digest, status.st_size, status.st_mtime)
    except OSError as error:
        raise StoreError(f"{repository / folder}: {error.strerror}") from error


def unpack(file: Path, size: int, digest: bytes, target: IO[bytes] | None = None) -> None:
    """Decompress a published file and compare it with its name, with bounded memory.

    Args:
        file: one zstd frame.
        size: bytes it must give.
        digest: SHA-256 of those, 32 bytes.
        target: where to write them; ``None`` only compares.

    Raises:
        MissingError: there is no such file.
        IntegrityError: it gives other bytes.
        StoreError: the disk failed.
    """
    found = hashlib.sha256()
    given = 0
    try:
        with file.open("rb") as packed:
            is_whole = _is_one_frame(packed)
            for block in zstandard.ZstdDecompressor().read_to_iter(packed, _COPY_BYTES):
                given += len(block)
                if given > size:
                    break
                found.update(block)
                if target is not None:
                    target.write(block)
    except FileNotFoundError as error:
        raise MissingError(f"{file} does not exist") from error
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
    except zstandard.ZstdError as error:
        raise IntegrityError(f"{file} is damaged: {error}") from error
    if not is_whole or given != size or found.digest() != digest:
        raise IntegrityError(f"{file} is damaged: it does not hold what its name says")


def content_size(file: Path, folder: str) -> int:
    """Uncompressed bytes that a frame promises.

    Raises:
        MissingError: there is no such file.
        IntegrityError: it is no zstd frame, or promises more than its kind may have.
        StoreError: the disk failed.
    """
    try:
        with file.open("rb") as packed:
            head = packed.read(_HEADER_BYTES)
        size = zstandard.frame_content_size(head)
    except FileNotFoundError as error:
        raise MissingError(f"{file} does not exist") from error
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
    except zstandard.ZstdError as error:
        raise IntegrityError(f"{file} is damaged: {error}") from error
    if not 0 <= size <= MAX_FRAME_CONTENT[folder]:
        raise IntegrityError(f"{file} is damaged: it promises {size} bytes")
    return size


def _is_one_frame(packed: IO[bytes]) -> bool:
    """Whether a file ends where its one frame does (RFC 8878, sections 3.1.1.1 and 3.1.1.2).

    A decompressor that has given all bytes does not miss a checksum that was cut off, nor mind
    what follows. The file is back at its beginning afterwards.
    """
    head = packed.read(_HEADER_BYTES)
    at = zstandard.frame_header_size(head)
    is_last = False
    while not is_last:
        packed.seek(at)
        block = int.from_bytes(packed.read(_BLOCK_HEADER_BYTES), "little")
        is_last, kind = bool(block & 1), block >> 1 & 3
        at += _BLOCK_HEADER_BYTES + (1 if kind == _RLE_BLOCK else block >> 3)
        if at > os.fstat(packed.fileno()).st_size:
            return False
    packed.seek(0)
    checksum = _CHECKSUM_BYTES if zstandard.get_frame_parameters(head).has_checksum else 0
    return at + checksum == os.fstat(packed.fileno()).st_size


def read_small(file: Path, max_bytes: int) -> bytes:
    """A whole small file.

    Raises:
        MissingError: there is no such file.
        FormatError: it is longer than ``max_bytes``.
        StoreError: the disk failed.
    """
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size  # read() makes room for all it may get
            data = opened.read(min(size, max_bytes) + 1)
    except FileNotFoundError as error:
        raise MissingError(f"{file} does not exist") from error
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
    if len(data) > max_bytes:
        raise FormatError(f"{file} is longer than {max_bytes} bytes")
    return data


def _directories(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _regular(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_file(follow_symlinks=False):
                        yield entry.name, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return
