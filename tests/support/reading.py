"""A small world to read from: bodies, the objects they lie in, a catalog, scripted sources."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
import zstandard

from catalog.errors import DamagedCatalog
from catalog.model import Content, ContentRef, Extent, ObjectRef
from thinfs.errors import FormatError, MissingError, TransportError
from thinfs.store.layout import object_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def patterned(size: int, seed: int = 0) -> bytes:
    """Bytes in which every place differs from every other."""
    blocks = (sha256(b"%d %d" % (seed, n)) for n in range(size // 32 + 1))
    return b"".join(blocks)[:size]


@dataclass
class World:
    """Contents with their objects; acts as their catalog (``ContentCatalog``).

    Attributes:
        bodies: content number → the bytes that a reader must get.
        files: path below the repository → stored bytes.
    """

    bodies: dict[int, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    contents: dict[int, Content] = field(default_factory=dict)
    objects: dict[bytes, ObjectRef] = field(default_factory=dict)
    refs: dict[bytes, list[ContentRef]] = field(default_factory=dict)

    def content(self, content_id: int) -> Content:
        try:
            return self.contents[content_id]
        except KeyError:
            raise DamagedCatalog(f"no content {content_id}") from None

    def object(self, digest: bytes) -> ObjectRef | None:
        return self.objects.get(digest)

    def contents_in(self, object_digest: bytes) -> Sequence[ContentRef]:
        return self.refs.get(object_digest, [])

    def add_object(self, data: bytes) -> bytes:
        digest = sha256(data)
        frame = zstandard.ZstdCompressor(level=1).compress(data)
        self.files[object_path(digest)] = frame
        self.objects[digest] = ObjectRef(digest, len(data), len(frame))
        return digest

    def add_content(
        self, body: bytes, extents: Sequence[Extent], digest: bytes | None = None
    ) -> int:
        """A content; ``digest`` is its own unless the catalog is to be wrong about it."""
        number = len(self.contents) + 1
        content = Content(digest or sha256(body), len(body), tuple(extents))
        self.bodies[number] = body
        self.contents[number] = content
        for extent in extents:
            ref = ContentRef(number, content.digest, content.size, extent)
            self.refs.setdefault(extent.object, []).append(ref)
        return number

    def bundle(self, *bodies: bytes) -> list[int]:
        """Small contents in one object."""
        digest = self.add_object(b"".join(bodies))
        numbers, place = [], 0
        for body in bodies:
            numbers.append(self.add_content(body, [Extent(0, len(body), digest, place)]))
            place += len(body)
        return numbers

    def chunked(self, body: bytes, chunk: int) -> int:
        """One content cut into objects of ``chunk`` bytes; chunks of zeros are holes."""
        extents = []
        for start in range(0, len(body), chunk):
            part = body[start : start + chunk]
            if part.count(0) != len(part):
                extents.append(Extent(start, len(part), self.add_object(part), 0))
        return self.add_content(body, extents)

    def write(self, folder: Path) -> None:
        """Make a repository's files."""
        for path, data in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)


def flipped(data: bytes, place: int = -1) -> bytes:
    """The same bytes but for one bit."""
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


class ScriptedSource:
    """A source that does, request by request, what letters say, and then answers rightly.

    r: the right answer · E: a transport error · m: missing · w: one bit is wrong · t: cut off ·
    l: longer than allowed · h: waits for ``release`` and then answers rightly · x: a defect

    Attributes:
        asked: (path, fresh) of every request.
        proxies: what each was to go through.
        running: requests under way; ``most`` is the largest number there was.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        script: str = "",
        *,
        url: str = "http://scripted.test",
        behind_caches: bool = True,
        otherwise: str = "r",
    ) -> None:
        self.url = url
        self.behind_caches = behind_caches
        self.script = script
        self.otherwise = otherwise
        self.asked: list[tuple[str, bool]] = []
        self.proxies: list[str | None] = []
        self.running = 0
        self.most = 0
        self.release = trio.Event()
        self.closed = False
        self._files = files

    async def get(
        self, path: str, max_bytes: int, *, fresh: bool = False, proxy: str | None = None
    ) -> bytes:
        self.asked.append((path, fresh))
        self.proxies.append(proxy)
        letter, self.script = (self.script[:1] or self.otherwise), self.script[1:]
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.lowlevel.checkpoint()
            if letter == "h":
                await self.release.wait()
        finally:
            self.running -= 1
        return self._answer(letter, path, max_bytes)

    async def copy(
        self,
        path: str,
        max_bytes: int,
        into: BinaryIO,
        *,
        fresh: bool = False,
        proxy: str | None = None,
    ) -> int:
        return into.write(await self.get(path, max_bytes, fresh=fresh, proxy=proxy))

    async def aclose(self) -> None:
        self.closed = True

    def _answer(self, letter: str, path: str, max_bytes: int) -> bytes:
        if letter == "E":
            raise TransportError(f"{self.url}/{path}: scripted")
        if letter == "x":
            raise RuntimeError("a defect")
        if letter == "m" or path not in self._files:
            raise MissingError(f"{self.url}/{path} does not exist")
        data = self._files[path]
        if letter == "l" or len(data) > max_bytes:
            raise FormatError(f"{self.url}/{path} is longer than {max_bytes} bytes")
        return {"w": flipped(data), "t": data[: len(data) // 2]}.get(letter, data)
