"""The small JSON files of a repository: what it is, what a layer became, what a chain became.

They are hints for converters and for people. Nothing that a node serves is believed because a
record says so: a node starts from the recipe, which names the root's catalog by its digest.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from thinfs.errors import FormatError
from thinfs.store.layout import FORMAT_VERSION

MAX_RECORD_BYTES = 64 << 10

Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0)]
T = TypeVar("T")


class PublishedFile(msgspec.Struct, frozen=True):
    """A catalog or a metadata image, published as one zstd frame.

    Attributes:
        digest: of the uncompressed file.
        size: bytes of the uncompressed file.
        stored_size: bytes of the zstd frame.
    """

    digest: Digest
    size: Count
    stored_size: Count


class RepositoryRecord(msgspec.Struct, frozen=True):
    """``thinfs.json``: says that a directory is a repository, and of which format."""

    format: int


class LayerRecord(msgspec.Struct, frozen=True):
    """``layers/<digest>``: what one layer became.

    Attributes:
        digest: of the compressed layer.
        diff_id: of its tar stream.
        size: compressed bytes.
        tar_size: bytes of its tar stream.
        catalog: the layer's tree.
    """

    digest: Digest
    diff_id: Digest
    size: Count
    tar_size: Count
    catalog: PublishedFile


class RootRecord(msgspec.Struct, frozen=True):
    """``roots/<chain id>``: the merged tree of one chain of layers.

    Attributes:
        chain_id: OCI ChainID of the layers.
        catalog: the merged tree.
        metadata: the same tree as an EROFS image; none when it does not fit into one.
        content_bytes: sum of its distinct contents.
        stored_bytes: sum of the objects they lie in, as stored.
        boot: its boot record; none only when there is no metadata image.
        profile: digest of the boot profile that ``boot`` was made with; none without.
    """

    chain_id: Digest
    catalog: PublishedFile
    content_bytes: Count
    stored_bytes: Count
    metadata: PublishedFile | None = None
    boot: PublishedFile | None = None
    profile: Digest | None = None


def parse_record(data: bytes, kind: type[T], where: str) -> T:
    """Read a record.

    Raises:
        FormatError: it is no JSON of that shape; the message names ``where``.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{where} is not a {kind.__name__}: {error}") from error


def render_record(record: msgspec.Struct) -> bytes:
    """Write a record: the same bytes for the same values."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def check_format(record: RepositoryRecord, where: str) -> None:
    """Refuse a repository of another format.

    Raises:
        FormatError: the format is not the one this program writes.
    """
    if record.format != FORMAT_VERSION:
        raise FormatError(
            f"{where} has repository format {record.format}; "
            f"this thinfs reads and writes format {FORMAT_VERSION}"
        )
