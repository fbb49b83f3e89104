"""What of a trace belongs to a root, and which paths its contents have."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes

import trio

from catalog.errors import CatalogError
from catalog.reader import CatalogReader
from thinfs.daemon.trace import Belonging
from thinfs.errors import ThinfsError
from thinfs.store.layout import boot_path, catalog_path, metadata_path, raw_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from thinfs.oci.recipe import RecipeRoot
    from thinfs.roots.contents import RootMap
    from thinfs.roots.opening import OpenRoot

PATHS_WITHIN_S: Final = 10.0
"""Longest wait for a catalog that only tells paths."""

_PLAIN: Final = "/!\"#$&'()*+,-.:;<=>?@[\\]^_`{|}~ "


def belonging(root: OpenRoot) -> Belonging:
    """What belongs to an open root."""
    known = root.contents
    assert root.recipe.thinfs is not None
    return Belonging(
        content=lambda digest: known.number(digest) is not None,
        object=lambda digest: known.object(digest) is not None,
        files=frozenset(_files(root.recipe.thinfs.root)),
        metadata=known.metadata,
    )


async def paths_of(known: RootMap, digests: Collection[bytes]) -> dict[bytes, str]:
    """One path for each of the contents, if the catalog can be had soon; found in a thread."""
    catalog = None
    with trio.move_on_after(PATHS_WITHIN_S), suppress(ThinfsError):
        catalog = await known.catalog()
    if catalog is None:
        return {}
    wanted = {
        number: digest for digest in digests if (number := catalog.content_id(digest)) is not None
    }
    try:
        return await trio.to_thread.run_sync(_walk, catalog.path, wanted)
    except CatalogError:
        return {}


def shown(path: bytes) -> str:
    """A path as text: bytes that are no UTF-8, and ``%``, as ``%XX``."""
    try:
        return path.decode().replace("%", "%25")
    except UnicodeDecodeError:
        return quote_from_bytes(path, safe=_PLAIN)


def _walk(catalog: Path, wanted: dict[int, bytes]) -> dict[bytes, str]:
    """With a reader of its own: the other one belongs to the event loop."""
    left = dict(wanted)
    found: dict[bytes, str] = {}
    with CatalogReader.open(catalog) as reader:
        names = reader.walk()
        while left and (entry := next(names, None)) is not None:
            digest = left.pop(entry[1].content_id, None)
            if digest is not None:
                found[digest] = shown(entry[0])
    return found


def _files(root: RecipeRoot) -> Iterator[str]:
    yield catalog_path(raw_digest(root.catalog.digest))
    if root.metadata is not None:
        yield metadata_path(raw_digest(root.metadata.digest))
    if root.boot is not None:
        yield boot_path(raw_digest(root.boot.digest))
