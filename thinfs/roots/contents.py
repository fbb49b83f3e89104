"""Where the contents of a root are: from its boot record at once, from its catalog when it is here.

Contents have numbers, as :class:`thinfs.cache.root.ContentCatalog` wants them: those of the
catalog are its own, from 1; those of the boot record are negative. What both know is read as the
boot record says for as long as the root is open: what has come of a large content is kept by
where its parts come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from thinfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.model import Content, ContentRef, ObjectRef
    from catalog.reader import CatalogReader
    from thinfs.errors import ThinfsError
    from thinfs.roots.boot import BootContents


class RootMap:
    """What is known of one root's contents.

    Concurrency: for the event loop alone. ``_turn`` is set, and replaced, whenever an attempt to
    get the catalog ends; ``wanted`` is set by those who wait for it.

    Args:
        boot: the boot record, if there is one.
        catalog: the catalog, if it is here; closed by :meth:`close`.

    Attributes:
        boot: the boot record.
        wanted: set while somebody waits for the catalog.
    """

    def __init__(self, boot: BootContents | None = None, catalog: CatalogReader | None = None):
        self.boot = boot
        self.wanted = trio.Event()
        self._catalog = catalog
        self._failure: ThinfsError | None = None
        self._turn = trio.Event()
        self._then: list[Callable[[CatalogReader], None]] = []

    @property
    def metadata(self) -> bytes:
        """Digest of the metadata image that is among the contents; empty if none is."""
        return self.boot.metadata.digest if self.boot is not None else b""

    @property
    def has_profile(self) -> bool:
        """Whether it is known what a start reads, so that nothing need be guessed."""
        return self.boot is not None and self.boot.names_contents

    # The catalog

    @property
    def known(self) -> CatalogReader | None:
        """The catalog if it is here."""
        return self._catalog

    @property
    def complete(self) -> bool:
        """Whether everything is known, so that there is nothing to wait for."""
        return self._catalog is not None

    async def catalog(self) -> CatalogReader:
        """The catalog; waits for it until it is here or an attempt to get it has failed.

        Raises:
            ThinfsError: it could not be had; a later call waits for the next attempt.
        """
        if self._catalog is None:
            self.wanted.set()
            await self._turn.wait()
        if self._catalog is None:
            raise self._failure or StoreError("the root is being detached")
        return self._catalog

    def then(self, call: Callable[[CatalogReader], None]) -> None:
        """Call when the catalog is here, at once if it is; never after :meth:`close`."""
        if self._catalog is not None:
            call(self._catalog)
        else:
            self._then.append(call)

    def learn(self, catalog: CatalogReader) -> None:
        """The catalog has come."""
        self._catalog = catalog
        self._turn.set()
        while self._then:
            self._then.pop(0)(catalog)

    def fail(self, error: ThinfsError) -> None:
        """An attempt to get it has failed; another one follows."""
        self._failure = error
        self.wanted = trio.Event()
        turn, self._turn = self._turn, trio.Event()
        turn.set()

    def close(self) -> None:
        """Close the catalog; who waits for it hears that the root goes."""
        self._then.clear()
        if self._catalog is not None:
            self._catalog.close()
        self._failure = None
        self._turn.set()

    # Contents, for thinfs.cache and thinfs.fs

    def number(self, digest: bytes) -> int | None:
        """The number of a content as far as it is known."""
        if self.boot is not None:
            number = self.boot.number(digest)
            if number is not None:
                return _of_boot(number)
        return self._catalog.content_id(digest) if self._catalog is not None else None

    def size(self, digest: bytes) -> int | None:
        """Bytes of a content as far as it is known."""
        if self.boot is not None:
            number = self.boot.number(digest)
            if number is not None:
                return self.boot.size(number)
        return self._catalog.content_size(digest) if self._catalog is not None else None

    def content(self, content_id: int) -> Content:
        """A content by its number."""
        if content_id < 0:
            assert self.boot is not None
            return self.boot.content(_of_boot(content_id))
        assert self._catalog is not None
        return self._catalog.content(content_id)

    def object(self, digest: bytes) -> ObjectRef | None:
        """One object as far as it is known."""
        found = self.boot.object(digest) if self.boot is not None else None
        if found is None and self._catalog is not None:
            found = self._catalog.object(digest)
        return found

    def contents_in(self, object_digest: bytes) -> list[ContentRef]:
        """The contents that lie in an object; each as the number that it is read by has it."""
        refs: list[ContentRef] = []
        if self.boot is not None:
            refs += (_negative(ref) for ref in self.boot.contents_in(object_digest))
        if self._catalog is not None:
            refs += (
                ref
                for ref in self._catalog.contents_in(object_digest)
                if self.boot is None or self.boot.number(ref.digest) is None
            )
        return refs

    def digests_from(self, first: bytes, limit: int) -> list[bytes]:
        """Digests from ``first`` on, ascending, as far as they are known."""
        found: set[bytes] = set()
        for index in (self.boot, self._catalog):
            if index is not None:
                found.update(index.digests_from(first, limit))
        return sorted(found)[:limit]


def _of_boot(number: int) -> int:
    """From the boot record's numbers, which begin with 0, to negative ones, and back."""
    return -1 - number


def _negative(ref: ContentRef) -> ContentRef:
    return type(ref)(_of_boot(ref.content_id), ref.digest, ref.size, ref.extent)
