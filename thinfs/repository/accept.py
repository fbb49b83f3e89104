"""Whether a file is what its name, and whoever names it, say: one function for each kind.

Each takes a file last, gives nothing, and raises a :class:`ThinfsError` when it is not.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from thinfs.errors import FormatError, IntegrityError
from thinfs.fetch.verify import decompress
from thinfs.oci.digest import verify
from thinfs.oci.layout import check_version, entries_of
from thinfs.repository.files import MAX_FRAME_CONTENT, content_size, read_small, unpack
from thinfs.store.layout import MAX_STORED_OBJECT_BYTES
from thinfs.store.profiles import MAX_PROFILE_BYTES, parse_profile
from thinfs.store.records import (
    MAX_RECORD_BYTES,
    LayerRecord,
    RepositoryRecord,
    RootRecord,
    check_format,
    parse_record,
)

if TYPE_CHECKING:
    from pathlib import Path


def repository(file: Path) -> None:
    """``thinfs.json``."""
    record = parse_record(read_small(file, MAX_RECORD_BYTES), RepositoryRecord, file.name)
    check_format(record, file.name)


def layout(file: Path) -> None:
    """``oci-layout``."""
    check_version(read_small(file, MAX_RECORD_BYTES), file.name)


def index(file: Path) -> None:
    """``index.json`` of the layout, which must be there: without it nothing has a name."""
    read_small(file, MAX_RECORD_BYTES << 10)
    entries_of(file)


def blob(digest: str, size: int, file: Path) -> None:
    """A blob of the layout."""
    verify(read_small(file, size), digest, file.name)


def whole_blob(digest: str, file: Path) -> None:
    """A blob whose size nobody knows."""
    blob(digest, file.stat().st_size if file.exists() else 0, file)


def layer_record(name: str, file: Path) -> None:
    """The record of a layer, by the hex digits in its name."""
    record = parse_record(read_small(file, MAX_RECORD_BYTES), LayerRecord, file.name)
    if record.digest != f"sha256:{name}":
        raise FormatError(f"it is the record of {record.digest}")


def root_record(name: str, file: Path) -> None:
    """The record of a root, by the hex digits in its name."""
    record = parse_record(read_small(file, MAX_RECORD_BYTES), RootRecord, file.name)
    if record.chain_id != f"sha256:{name}":
        raise FormatError(f"it is the record of {record.chain_id}")


def profile(name: str, file: Path) -> None:
    """A boot profile, by the hex digits in its name."""
    found = parse_profile(read_small(file, MAX_PROFILE_BYTES), file.name)
    if found.chain_id != f"sha256:{name}":
        raise FormatError(f"it is the profile of {found.chain_id}")


def frame(size: int, digest: bytes, file: Path) -> None:
    """A published file of a known size."""
    unpack(file, size, digest)


def unpacked(size: int, digest: bytes, target: Path, file: Path) -> None:
    """The same, and what is in it is in ``target`` afterwards."""
    with target.open("wb") as sink:
        unpack(file, size, digest, sink)


def whole_frame(folder: str, digest: bytes, file: Path) -> None:
    """A published file whose size nobody knows."""
    unpack(file, content_size(file, folder), digest)


def stored_object(size: int | None, digest: bytes, file: Path) -> None:
    """An object; ``size`` is ``None`` when nobody names it."""
    data = read_small(file, MAX_STORED_OBJECT_BYTES)
    size = content_size(file, "objects") if size is None else size
    if not 0 < size <= MAX_FRAME_CONTENT["objects"]:
        raise IntegrityError(f"an object of {size} bytes")
    object_bytes(size, digest, data)


def object_bytes(size: int, digest: bytes, data: bytes) -> None:
    """The same of bytes in memory."""
    try:
        body = decompress(data, size)
    except FormatError as error:
        raise IntegrityError(f"damaged: {error}") from error
    if hashlib.sha256(body).digest() != digest:
        raise IntegrityError("damaged: it holds other bytes than its name says")
