"""A tree in memory and bodies that answer at once: what the file system is tested with."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field

from catalog.model import ROOT_INO, DirEntry, Node, Xattrs

MTIME_NS = 1_234_567_890_123_456_789


def node(ino: int, mode: int, **values: object) -> Node:
    """A node with defaults for all that does not matter."""
    given = {
        "uid": 0,
        "gid": 0,
        "mtime_ns": MTIME_NS,
        "size": 0,
        "nlink": 1,
        "rdev": (0, 0),
        "content_id": 0,
        "has_xattrs": False,
        **values,
    }
    return Node(ino=ino, mode=mode, **given)  # type: ignore[arg-type] # fields of Node only


@dataclass
class MemoryTree:
    """Implements ``thinfs.fs.filesystem.Tree``; cookies are positions."""

    nodes: dict[int, Node] = field(
        default_factory=lambda: {ROOT_INO: node(ROOT_INO, stat.S_IFDIR | 0o755, nlink=2)}
    )
    names: dict[int, dict[bytes, int]] = field(default_factory=lambda: {ROOT_INO: {}})
    targets: dict[int, bytes] = field(default_factory=dict)
    attributes: dict[int, Xattrs] = field(default_factory=dict)

    def add(self, parent: int, name: bytes, entry: Node) -> Node:
        """Give a node a name."""
        self.nodes[entry.ino] = entry
        self.names[parent][name] = entry.ino
        if stat.S_ISDIR(entry.mode):
            self.names[entry.ino] = {}
        return entry

    def node(self, ino: int, /) -> Node | None:
        return self.nodes.get(ino)

    def lookup(self, parent: int, name: bytes, /) -> Node | None:
        ino = self.names[parent].get(name)
        return None if ino is None else self.nodes[ino]

    def readdir(self, ino: int, after: int, limit: int, /) -> list[DirEntry]:
        listed = list(enumerate(sorted(self.names[ino].items()), start=1))
        return [
            DirEntry(name, self.nodes[child], cookie)
            for cookie, (name, child) in listed[after : after + limit]
        ]

    def readlink(self, ino: int, /) -> bytes:
        return self.targets[ino]

    def xattrs(self, ino: int, /) -> Xattrs:
        return self.attributes.get(ino, ())


class MemoryBody:
    """Implements ``thinfs.fs.filesystem.Body``."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.closed = 0

    async def read(self, offset: int, length: int, /) -> bytes:
        return self.data[offset : offset + length]

    def close(self) -> None:
        self.closed += 1


class MemoryBodies:
    """Opens bodies by content id, and remembers them."""

    def __init__(self, bodies: dict[int, bytes]) -> None:
        self._bodies = bodies
        self.opened: list[MemoryBody] = []

    def __call__(self, content_id: int) -> MemoryBody:
        self.opened.append(MemoryBody(self._bodies[content_id]))
        return self.opened[-1]
