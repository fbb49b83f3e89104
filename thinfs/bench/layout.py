"""Where contents lie in objects, read from what a node has kept of a root."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from catalog.errors import CatalogError
from catalog.reader import CatalogReader
from thinfs.bench.trace import METADATA
from thinfs.errors import ThinfsError
from thinfs.store.boot import parse_boot

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from thinfs.store.boot import BootRecord


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one content in one object.

    Attributes:
        content: its digest, hex, or ``metadata``.
        offset: of the first of them in the content.
        length: how many.
    """

    content: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects and what lies in them, by hex digest.

    Attributes:
        sizes: uncompressed bytes.
        pieces: what they hold.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    pieces: dict[str, list[Piece]] = field(default_factory=lambda: defaultdict(list))


def objects_of(cache: Path, wanted: Collection[str]) -> Objects:
    """What a node's cache knows about objects.

    Args:
        cache: its directory; catalogs and boot records in it are looked through.
        wanted: hex digests of objects; those that nobody knows are left out.
    """
    found = Objects()
    for path in sorted((cache / "boots").glob("[0-9a-f]*")):
        with contextlib.suppress(ThinfsError, OSError):
            _add_boot(found, parse_boot(path.read_bytes(), str(path)), wanted)
    for path in sorted((cache / "catalogs").glob("[0-9a-f]*")):
        with contextlib.suppress(CatalogError), CatalogReader.open(path) as reader:
            for name in sorted(set(wanted) - set(found.sizes)):
                _add_from_catalog(found, reader, name)
    return found


def _add_boot(found: Objects, record: BootRecord, wanted: Collection[str]) -> None:
    named = [(content.digest, content.extents) for content in record.contents]
    for digest, extents in ((METADATA, record.metadata.extents), *named):
        for extent in extents:
            entry = record.objects[extent.object]
            if entry.digest in wanted:
                found.sizes[entry.digest] = entry.size
                found.pieces[entry.digest].append(Piece(digest, extent.offset, extent.length))


def _add_from_catalog(found: Objects, reader: CatalogReader, name: str) -> None:
    stored = reader.object(bytes.fromhex(name))
    if stored is None:
        return
    found.sizes[name] = stored.size
    found.pieces[name] += [
        Piece(each.digest.hex(), each.extent.offset, each.extent.length)
        for each in reader.contents_in(stored.digest)
    ]
