"""A disk in plain dictionaries, to which layers are applied in order.

It works on the whole tree at once, as an unpacker does, where the catalog's writer sees one
layer and the merge sees what it left. What both must agree on is the result.
"""

from __future__ import annotations

import copy
import stat
from dataclasses import dataclass, field

from catalog.model import Entry, EntryKind

MAX_HOPS = 40


class CannotApply(Exception):  # noqa: N818 - reads as what it is
    """This entry is not for this model: refused by unpackers, or left to tests of grafts."""


@dataclass
class Inode:
    mode: int
    uid: int = 0
    mtime_ns: int = 0
    holds: object = (0, 0)
    born: int = 0
    named: int | None = None
    names: dict[bytes, Slot] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass
class Slot:
    inode: Inode
    layer: int


class Disk:
    """The state after some layers; ``apply`` adds one entry of the layer ``self.layer``.

    With ``follows_lower`` paths go through symlinks of lower layers too. Where such a path and
    a direct one meet in one layer, only the order in the tar says what wins, and a catalog has
    no such order: a second entry for a file of the same layer cannot be applied then.
    """

    def __init__(self, *, follows_lower: bool = False) -> None:
        self.layer = 0
        self._follows_lower = follows_lower
        self.root = self._implied()

    def apply(self, entry: Entry) -> None:
        """Apply one entry, or raise CannotApply and change nothing."""
        before = copy.deepcopy(self.root)
        try:
            self._apply(entry)
        except CannotApply:
            self.root = before
            raise

    def described(self) -> dict[bytes, tuple[object, ...]]:
        """As :func:`tests.support.catalogs.described`."""
        links: dict[int, int] = {}
        first: dict[int, bytes] = {}
        paths = list(self._walk(b"", self.root))
        for path, inode in paths:
            links[id(inode)] = links.get(id(inode), 0) + 1
            first.setdefault(id(inode), path)
        tree: dict[bytes, tuple[object, ...]] = {}
        for path, inode in paths:
            count = links[id(inode)]
            if inode.is_directory:
                count = 2 + sum(slot.inode.is_directory for slot in inode.names.values())
            tree[path] = (
                *(inode.mode, inode.uid, inode.mtime_ns, inode.holds),
                *(count, first[id(inode)]),
            )
        return tree

    def _apply(self, entry: Entry) -> None:
        if entry.kind is EntryKind.OPAQUE:
            self._prune(self._directory(entry.path.split(b"/") if entry.path else []))
            return
        if not entry.path:
            self._set(self.root, entry)
            return
        *parents, name = entry.path.split(b"/")
        if entry.kind is EntryKind.HARDLINK:
            if entry.target == entry.path:
                raise CannotApply("a hard link to itself")
            source = self._linked(entry.target)
            parent = self._directory(parents)
            self._once(parent, name)
            parent.names[name] = Slot(source, self.layer)
        elif entry.kind is EntryKind.WHITEOUT:
            self._whiteout(self._directory(parents), name)
        else:
            self._node(self._directory(parents), name, entry)

    def _node(self, parent: Inode, name: bytes, entry: Entry) -> None:
        self._once(parent, name)
        slot = parent.names.get(name)
        if not (slot and slot.inode.is_directory and stat.S_ISDIR(entry.mode)):
            slot = parent.names[name] = Slot(Inode(entry.mode, born=self.layer), self.layer)
        slot.layer = self.layer
        self._set(slot.inode, entry)

    def _set(self, inode: Inode, entry: Entry) -> None:
        inode.mode, inode.uid, inode.mtime_ns = entry.mode, entry.uid, entry.mtime_ns
        inode.named = self.layer
        inode.holds = entry.target or entry.content or entry.rdev

    def _once(self, parent: Inode, name: bytes) -> None:
        slot = parent.names.get(name)
        if self._follows_lower and slot and slot.layer == self.layer and self.layer:
            raise CannotApply("a second entry for this file")

    def _linked(self, path: bytes) -> Inode:
        parts = path.split(b"/")
        if self._follows_lower:
            parts[:-1] = self._followed(parts[:-1])
        inode = self.root
        for part in parts:
            slot = inode.names.get(part) if inode.is_directory else None
            if slot is None:
                raise CannotApply("no such file")
            inode = slot.inode
        if self._follows_lower and slot is not None and slot.layer == self.layer and self.layer:
            raise CannotApply("a link to a file of the same layer, by whatever path")
        if inode.is_directory:
            raise CannotApply("a hard link to a directory")
        return inode

    def _whiteout(self, parent: Inode, name: bytes) -> None:
        slot = parent.names.get(name)
        if slot is None:
            return
        if slot.layer != self.layer:
            del parent.names[name]
        elif slot.inode.is_directory:
            self._prune(slot.inode)
            self._reset(slot.inode)

    def _prune(self, directory: Inode) -> None:
        """Take away what other layers have put below a directory."""
        for name, slot in list(directory.names.items()):
            if slot.layer != self.layer:
                del directory.names[name]
            elif slot.inode.is_directory:
                self._prune(slot.inode)
                self._reset(slot.inode)

    def _reset(self, directory: Inode) -> None:
        if directory.named != self.layer:
            directory.mode, directory.uid, directory.mtime_ns = stat.S_IFDIR | 0o755, 0, 0

    def _directory(self, parts: list[bytes]) -> Inode:
        """The directory at a path, made where it is missing, but only once it is known."""
        directory = self.root
        for name in self._followed(parts):
            slot = directory.names.setdefault(name, Slot(self._implied(), self.layer))
            slot.layer = self.layer
            directory = slot.inode
        return directory

    def _followed(self, parts: list[bytes]) -> list[bytes]:
        path: list[tuple[bytes, Inode]] = []
        todo = list(parts)
        hops = 0
        while todo:
            part = todo.pop(0)
            above = path[-1][1] if path else self.root
            slot = above.names.get(part)
            if part == b"..":
                path = path[:-1]
            elif part not in (b"", b"."):
                if slot is None or slot.inode.is_directory:
                    path.append((part, slot.inode if slot else self._implied()))
                    continue
                hops += 1
                todo = self._target(slot, hops).split(b"/") + todo
                if todo[0] == b"":
                    path = []
        return [name for name, _ in path]

    def _target(self, slot: Slot, hops: int) -> bytes:
        own = slot.layer == slot.inode.born == self.layer
        may_follow = own or self._follows_lower
        if not stat.S_ISLNK(slot.inode.mode) or not may_follow or hops > MAX_HOPS:
            raise CannotApply("not a directory, or a symlink that only grafts follow")
        assert isinstance(slot.inode.holds, bytes)
        return slot.inode.holds

    def _implied(self) -> Inode:
        return Inode(stat.S_IFDIR | 0o755, born=self.layer)

    def _walk(self, path: bytes, inode: Inode) -> list[tuple[bytes, Inode]]:
        found = [(path, inode)]
        for name in sorted(inode.names):
            found += self._walk(path + b"/" + name if path else name, inode.names[name].inode)
        return found
