"""Compiled modules of one directory are wanted together: a guess without a boot profile.

An interpreter loads one extension module after the other, and each that is not here costs a round
trip. When several of a directory have been opened, the others in it are fetched as well, a bounded
number of bytes at a time, behind everything that somebody waits for.

Weighed with ``import numpy, pandas``: nearly all extension modules of a directory are loaded, but
of the sources, byte code and data beside each other only a part is. To guess at all files brought
59 MB where 44 were enough, and was no faster at 100 Mbit/s.
"""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from catalog.errors import CatalogError
from catalog.reader import CatalogReader
from thinfs.errors import ThinfsError
from thinfs.fetch.gate import Priority
from thinfs.roots import elf
from thinfs.roots.contents import RootMap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.model import Content
    from thinfs.cache.contents import ContentStore
    from thinfs.cache.root import RootContents

log = logging.getLogger(__name__)

MODULE: Final = b".so"
"""How names of modules end; those of libraries have a version behind it."""

OPENED: Final = 2
"""Modules of a directory that have been opened before its others are fetched."""

MAX_STEP_BYTES: Final = 4 << 20
"""Bytes, as stored, that are fetched for one more that is opened in a directory."""

MAX_FILE_BYTES: Final = 2 << 20
"""Larger files are not guessed at."""

PARALLEL: Final = 6
MAX_MODULES: Final = 1 << 16
"""Modules of a root that are remembered, 8 bytes each."""

_AT_ONCE: Final = 2048


@dataclass(frozen=True, slots=True)
class Places:
    """Which contents are in which directories.

    Attributes:
        contents: content numbers, those of one directory one behind the other, by name.
        directories: the directory of each of them.
        where: by content number, its first position in ``contents``.
    """

    contents: array[int]
    directories: array[int]
    where: dict[int, int]

    def directory(self, content_id: int) -> int:
        """Of a content; 0 when it has none."""
        at = self.where.get(content_id)
        return 0 if at is None else self.directories[at]

    def after(self, content_id: int) -> Iterator[int]:
        """The other contents of a content's directory: those behind it, then those before."""
        directory = self.directory(content_id)
        if not directory:
            return
        at = first = self.where[content_id]
        while first > 0 and self.directories[first - 1] == directory:
            first -= 1
        behind = at + 1
        while behind < len(self.directories) and self.directories[behind] == directory:
            yield self.contents[behind]
            behind += 1
        yield from self.contents[first:at]


@dataclass(slots=True)
class _Root:
    """One root.

    Attributes:
        id: of the root.
        places: of its modules, once they are known.
        learning: whether they are being looked up, or have been.
        opened: digests of modules that have been opened.
        counts: how many of them, by directory.
        busy: directories whose files are being fetched.
    """

    id: str
    places: Places | None = None
    learning: bool = False
    opened: set[bytes] = field(default_factory=set)
    counts: Counter[int] = field(default_factory=Counter)
    busy: set[int] = field(default_factory=set)


class Neighbours:
    """Guesses for attached roots without a boot profile.

    Args:
        store: whose contents they are.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._roots: dict[int, _Root] = {}

    def attach(self, root_id: str, root: RootContents) -> None:
        """Guess for a root, unless it has a boot profile."""
        known = root.reader
        assert isinstance(known, RootMap)
        if not known.has_profile:
            self._roots[id(known)] = _Root(root_id)

    def detach(self, root: RootContents) -> None:
        """Guess no longer."""
        self._roots.pop(id(root.reader), None)

    def begun(self, root: RootContents, content: Content, head: bytes) -> None:
        """The beginning of a content was read; must not wait."""
        guessing = self._roots.get(id(root.reader))
        if guessing is None or not head.startswith(elf.MAGIC) or content.digest in guessing.opened:
            return
        if not guessing.learning:
            guessing.learning = True
            self._store.prefetches.also(guessing.id, partial(self._learn, guessing, root))
        elif guessing.places is not None:
            guessing.opened.add(content.digest)
            self._opened(guessing, guessing.places, root, content)

    def _opened(
        self, guessing: _Root, places: Places, root: RootContents, content: Content
    ) -> None:
        known = root.reader
        assert isinstance(known, RootMap)
        try:
            number = known.number(content.digest) or 0
        except CatalogError:
            return
        directory = places.directory(number)
        guessing.counts[directory] += 1
        enough = guessing.counts[directory] >= OPENED
        if directory and enough and directory not in guessing.busy:
            guessing.busy.add(directory)
            work = partial(self._fetch_others, guessing, places, root, number)
            self._store.prefetches.also(guessing.id, work)

    async def _learn(self, guessing: _Root, root: RootContents) -> None:
        known = root.reader
        assert isinstance(known, RootMap)
        try:
            catalog = await known.catalog()
            guessing.places = await trio.to_thread.run_sync(learn, catalog.path)
        except (ThinfsError, CatalogError) as error:
            log.debug("root %s: no guesses: %s", guessing.id, error)

    async def _fetch_others(
        self, guessing: _Root, places: Places, root: RootContents, number: int
    ) -> None:
        directory = places.directory(number)
        try:
            wanted = await self._lacking(places, root, number)
            limiter = trio.CapacityLimiter(PARALLEL)
            async with trio.open_nursery() as nursery:
                for digest in wanted:
                    await limiter.acquire_on_behalf_of(digest)
                    nursery.start_soon(self._fetch, root, digest, limiter)
        except (ThinfsError, CatalogError) as error:
            log.debug("root %s: no guesses: %s", guessing.id, error)
        finally:
            guessing.busy.discard(directory)

    async def _lacking(self, places: Places, root: RootContents, number: int) -> list[bytes]:
        """Objects of the files next to a content that are not here, as many as one step takes."""
        found: dict[bytes, None] = {}
        left = MAX_STEP_BYTES
        for neighbour in places.after(number):
            content = root.reader.content(neighbour)
            if content.size > MAX_FILE_BYTES:
                continue
            objects = [extent.object for extent in content.extents if extent.object not in found]
            for digest in await self._store.presence.lacking(root, objects):
                ref = root.reader.object(digest)
                if ref is None or self._store.objects.has(digest):
                    continue
                left -= ref.stored_size
                found[digest] = None
            if left <= 0:
                break
        return list(found)

    async def _fetch(
        self, root: RootContents, digest: bytes, limiter: trio.CapacityLimiter
    ) -> None:
        try:
            await self._store.objects.ahead(root, digest, Priority.READ_AHEAD)
        except ThinfsError as error:
            log.debug("%s", error)
        finally:
            limiter.release_on_behalf_of(digest)


def learn(path: Path) -> Places:
    """Read a catalog's places, with a reader of its own: in a thread."""
    with CatalogReader.open(path) as reader:
        contents, directories = array("I"), array("I")
        where: dict[int, int] = {}
        pairs = islice(reader.contents_by_directory(MODULE), MAX_MODULES)
        while some := list(islice(pairs, _AT_ONCE)):
            for directory, content_id in some:
                contents.append(content_id)
                directories.append(directory)
                where.setdefault(content_id, len(contents) - 1)
    return Places(contents, directories, where)
