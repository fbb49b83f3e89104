"""Programs are followed to what they are going to load.

The loader asks for one library after the other, and each wait costs a round trip and more. When
the beginning of a program or a library is read, its other parts are fetched, the libraries that it
names, those that these name, and so on, all at the same time. A script leads to its interpreter.

Nothing is run or believed: names lead to files of the same root, and a wrong guess costs bytes.
Roots with a boot profile do without: what they load is known.
"""

from __future__ import annotations

import logging
import stat
from dataclasses import dataclass, field
from functools import partial
from posixpath import basename as name_of
from typing import TYPE_CHECKING, Final

import trio

from catalog.errors import CatalogError
from catalog.reader import CatalogReader
from thinfs.errors import FormatError, ThinfsError
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

MAX_WHOLE_BYTES: Final = 8 << 20
"""Programs and libraries up to this size are fetched as a whole; of larger ones only what names
others, and what is asked for."""

MAX_FOLLOWED: Final = 256
"""Programs and libraries of one root that are followed."""

MAX_LIBRARIES: Final = 50_000
"""Names of libraries that are remembered of one root, some 100 bytes each."""

MAX_LINKS: Final = 16
SCRIPT: Final = b"#!"
LIBRARY: Final = b".so"
SEARCHED: Final = (b"usr/local/sbin", b"usr/local/bin", b"usr/sbin", b"usr/bin", b"sbin", b"bin")
"""Where ``env`` looks, as most images have it."""


@dataclass(slots=True)
class _Root:
    """One root whose programs are followed.

    Attributes:
        id: of the root.
        followed: digests of what has been.
        libraries: content numbers by name, once they have been looked up; a bytes value is the
            name that a link leads to.
    """

    id: str
    followed: set[bytes] = field(default_factory=set)
    libraries: dict[bytes, int | bytes] | None = None
    reading: trio.Lock = field(default_factory=trio.Lock)


class Programs:
    """Follows the programs of attached roots.

    Args:
        store: whose contents they are.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._roots: dict[int, _Root] = {}

    def attach(self, root_id: str, root: RootContents) -> None:
        """Follow a root's programs, unless it has a boot profile."""
        known = root.reader
        assert isinstance(known, RootMap)
        if not known.has_profile:
            self._roots[id(known)] = _Root(root_id)

    def detach(self, root: RootContents) -> None:
        """Follow them no longer."""
        self._roots.pop(id(root.reader), None)

    def begun(self, root: RootContents, content: Content, head: bytes) -> None:
        """The beginning of a content was read; must not wait."""
        if not head.startswith((elf.MAGIC, SCRIPT)):
            return
        following = self._roots.get(id(root.reader))
        if following is None or content.digest in following.followed:
            return
        work = partial(self._begin, following, root, content, head)
        self._store.prefetches.also(following.id, work)

    async def _begin(
        self, following: _Root, root: RootContents, content: Content, head: bytes
    ) -> None:
        try:
            if head.startswith(SCRIPT):
                await self._script(following, root, head)
            else:
                await self._follow(following, root, content)
        except (ThinfsError, CatalogError) as error:
            log.debug("root %s: a program is not followed: %s", following.id, error)

    async def _script(self, following: _Root, root: RootContents, head: bytes) -> None:
        known = root.reader
        assert isinstance(known, RootMap)
        catalog = await known.catalog()
        for path in interpreters(head):
            number = located(catalog, path)
            if number is not None:
                await self._follow(following, root, catalog.content(number))

    async def _follow(self, following: _Root, root: RootContents, content: Content) -> None:
        """Fetch a program, and at the same time what it names."""
        if content.digest in following.followed or len(following.followed) >= MAX_FOLLOWED:
            return
        following.followed.add(content.digest)
        async with trio.open_nursery() as nursery:
            if content.size <= MAX_WHOLE_BYTES:
                for digest in dict.fromkeys(extent.object for extent in content.extents):
                    nursery.start_soon(self._fetch, root, digest)
            nursery.start_soon(self._follow_names, following, root, content)

    async def _fetch(self, root: RootContents, digest: bytes) -> None:
        try:
            if await self._store.presence.lacking(root, [digest]):
                await self._store.objects.ahead(root, digest, Priority.READ_AHEAD)
        except ThinfsError as error:
            log.debug("%s", error)

    async def _follow_names(self, following: _Root, root: RootContents, content: Content) -> None:
        try:
            names = await self._names(root, content)
            found = await self._located(following, root, names)
        except (ThinfsError, CatalogError) as error:
            log.debug("root %s: a program is not followed: %s", following.id, error)
            return
        async with trio.open_nursery() as nursery:
            for library in found:
                nursery.start_soon(self._follow, following, root, library)

    async def _names(self, root: RootContents, content: Content) -> list[bytes]:
        """Names of its libraries, and its interpreter's."""
        number = root.reader.number(content.digest) if isinstance(root.reader, RootMap) else None
        if number is None:
            raise FormatError("its catalog does not have it any more")
        body = self._store.open(root, number, told=False)
        try:
            program = elf.parse(await body.read(0, elf.HEAD_BYTES))
            runs = [program.interpreter] if program.interpreter is not None else []
            if program.dynamic is not None:
                dynamic = await body.read(program.dynamic.offset, program.dynamic.length)
                runs += program.names(dynamic)
            found = [elf.text(await body.read(run.offset, run.length)) for run in runs]
        finally:
            body.close()
        return [name.rpartition(b"/")[2] for name in found]

    async def _located(
        self, following: _Root, root: RootContents, names: list[bytes]
    ) -> list[Content]:
        known = root.reader
        assert isinstance(known, RootMap)
        catalog = await known.catalog()
        async with following.reading:
            if following.libraries is None:
                look = partial(libraries, catalog.path)
                following.libraries = await trio.to_thread.run_sync(look)
        numbers = (resolved(following.libraries, name) for name in names)
        return [catalog.content(number) for number in dict.fromkeys(numbers) if number]


def interpreters(head: bytes) -> Iterator[bytes]:
    """Paths that a script's first line names; of ``env`` also where it looks for its argument."""
    words = head.split(b"\n", 1)[0].removeprefix(SCRIPT).split()
    if not words:
        return
    yield words[0].lstrip(b"/")
    program = next((word for word in words[1:] if not word.startswith(b"-")), b"")
    if name_of(words[0]) == b"env" and program and b"/" not in program:
        yield from (folder + b"/" + program for folder in SEARCHED)


def located(catalog: CatalogReader, path: bytes) -> int | None:
    """The number of the content of a file, links followed; ``None`` when there is none."""
    left = [part for part in reversed(path.split(b"/")) if part]
    way: list[bytes] = []
    for _ in range(4 * MAX_LINKS):
        if not left:
            node = catalog.resolve(b"/".join(way))
            return node.content_id or None if node is not None else None
        part = left.pop()
        if part == b"..":
            del way[-1:]
            continue
        node = catalog.resolve(b"/".join([*way, part])) if part != b"." else None
        if node is not None and stat.S_ISLNK(node.mode):
            target = catalog.readlink(node.ino)
            way = [] if target.startswith(b"/") else way
            left += [each for each in reversed(target.split(b"/")) if each]
        elif part != b".":
            way.append(part)
    return None


def libraries(path: Path) -> dict[bytes, int | bytes]:
    """Libraries of a catalog by name; reads all names, with a reader of its own."""
    found: dict[bytes, int | bytes] = {}
    with CatalogReader.open(path) as reader:
        for name, node in reader.names_with(LIBRARY):
            if len(found) >= MAX_LIBRARIES:
                break
            if stat.S_ISLNK(node.mode):
                found.setdefault(name, reader.readlink(node.ino).rpartition(b"/")[2])
            elif node.content_id:
                found[name] = node.content_id
    return found


def resolved(known: dict[bytes, int | bytes], name: bytes) -> int:
    """The content that a library's name leads to; 0 when there is none."""
    for _ in range(MAX_LINKS):
        found = known.get(name, 0)
        if isinstance(found, int):
            return found
        name = found
    return 0
