"""What the cache needs to know of one root: where its bytes are said to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.model import Content, ContentRef, ObjectRef
    from thinfs.store.source import Source


class ContentCatalog(Protocol):
    """The part of ``catalog.reader.CatalogReader`` that is used here, on the event loop.

    What a content's number is, and for how long, is the catalog's own affair.
    """

    def content(self, content_id: int) -> Content:
        """One content with its extents."""
        ...

    def object(self, digest: bytes) -> ObjectRef | None:
        """One object, when the catalog names it."""
        ...

    def contents_in(self, object_digest: bytes) -> Sequence[ContentRef]:
        """The contents that lie in an object, in whole or in part."""
        ...


@dataclass(frozen=True, slots=True)
class RootContents:
    """Where one root's contents are, and the repositories it may be read from.

    Attributes:
        reader: open as long as any :class:`thinfs.cache.contents.Body` of the root is, and
            until what was fetched for them has been written out.
        sources: in order of preference, all allowed by the configuration.
        metadata: digest of the root's metadata image if that is among the contents: it is kept
            with its like and not among the contents of files.
        ordered: objects that the root's boot profile names, which come without being asked for.
    """

    reader: ContentCatalog
    sources: tuple[Source, ...]
    metadata: bytes = b""
    ordered: frozenset[bytes] = frozenset()
