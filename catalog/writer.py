"""Writing a catalog from entries, as a layer's tar stream makes them.

Entries have the meaning that containerd gives the members of a layer that it applies in order:

- a later entry replaces an earlier one of the same path, except that a directory named again
  keeps its children and only changes its attributes;
- parents that no entry names are *implied* directories: 0755, 0:0, time 0;
- a path that goes through a symlink of the same layer goes where the symlink points, inside
  the root; through anything else that is no directory it is refused;
- a hard link to a path that this layer does not have is kept as a *pending link*;
- whiteouts apply to lower layers only, wherever in the tar they stand: one for a directory that
  this layer has makes that directory opaque, one for anything else that it has means nothing.
"""

from __future__ import annotations

import contextlib
import stat
from collections import deque
from typing import TYPE_CHECKING, Final

from catalog import rules, schema
from catalog.build import building
from catalog.emit import Item, emit
from catalog.errors import InvalidEntry
from catalog.model import MAX_PATH_DEPTH, ROOT_INO, Entry, EntryKind, TreeKind
from catalog.staging import BATCH_ROWS, DIRECTORY, FILE, NOTHING, PENDING, SYMLINK, Staging
from catalog.xattrs import pack

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from catalog.model import CatalogSummary, Content, ObjectRef

_CACHED_DIRECTORIES: Final = 8192
_IMPLIED = Item(b"", stat.S_IFDIR | 0o755, flags=schema.FLAG_IMPLIED)

Step = tuple[bytes, int | None]
"""A directory on a path: its name, and its staged inode number if it exists."""


class CatalogWriter:
    """Writes one catalog; a context manager that leaves no file behind after an error.

    Memory does not grow with the tree, except for one number for each inode with several names.

    Args:
        path: where the catalog appears when it is complete; temporary files stand beside it.
        kind: a layer may hold whiteouts and links to files of lower layers; a root may not.
        batch_rows: staged rows that wait in memory before they are written.

    Attributes:
        dropped_xattrs: attributes that were left out because overlayfs would obey them.
    """

    def __init__(self, path: Path, kind: TreeKind, *, batch_rows: int = BATCH_ROWS) -> None:
        self.dropped_xattrs = 0
        self._path = path
        self._kind = kind
        self._stack = contextlib.ExitStack()
        self._builder = self._stack.enter_context(building(path, kind))
        self._staging = Staging(self._builder.db, batch_rows)
        self._directories: dict[bytes, int] = {b"": ROOT_INO}
        self._add = {
            EntryKind.NODE: self._add_node,
            EntryKind.HARDLINK: self._add_hardlink,
            EntryKind.WHITEOUT: self._add_whiteout,
            EntryKind.OPAQUE: self._add_opaque,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def add(self, entry: Entry) -> None:
        """Apply one entry to the tree.

        Raises:
            InvalidEntry: no tree may hold it; the message names the path.
        """
        self._add[entry.kind](entry)

    def add_object(self, ref: ObjectRef) -> None:
        """Make an object known; adding it again changes nothing."""
        self._builder.add_object(ref)

    def add_content(self, content: Content) -> None:
        """Make a content known, before or after the entries that use it; again changes nothing.

        Raises:
            InvalidEntry: its extents overlap, are out of order, or leave the content.
        """
        self._builder.add_content(content)

    def finish(self) -> CatalogSummary:
        """Number and check the tree and write the file.

        Contents and objects that no file of the final tree uses are left out.

        Raises:
            InvalidEntry: a content or object that the tree uses was never added.
        """
        self._staging.flush()
        root = self._staging.root()
        if self._kind is TreeKind.ROOT:
            emit(self._builder, _without_flags(root), self._children_in_root)
        else:
            emit(self._builder, root, self._staging.children)
        return self._builder.finish()

    def _children_in_root(self, directory: Item) -> list[Item]:
        return [_without_flags(item) for item in self._staging.children(directory)]

    # -- one method for each kind of entry

    def _add_node(self, entry: Entry) -> None:
        rules.check_node(entry)
        xattrs = rules.kept_xattrs(entry) if entry.xattrs else ()
        self.dropped_xattrs += len(entry.xattrs) - len(xattrs)
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFCHR and entry.rdev == (0, 0):
            self._add_whiteout(entry)  # what overlayfs would take it for
            return
        target = entry.target if kind == stat.S_IFLNK else b""
        is_device = kind in (stat.S_IFCHR, stat.S_IFBLK)
        item = Item(
            b"",
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            len(target) or entry.size,
            *(entry.rdev if is_device else (0, 0)),
            entry.content,
            pack(xattrs) if xattrs else b"",
            target,
        )
        if not entry.path:
            self._set_root(item)
        elif kind == stat.S_IFDIR:
            self._put_directory(*self._place(entry.path), item)
        else:
            parent, name = self._place(entry.path)
            what = SYMLINK if target else FILE
            self._put_other(parent, name, self._staging.new_inode(item), what)

    def _add_hardlink(self, entry: Entry) -> None:
        if not entry.path:
            raise InvalidEntry("the root cannot be a hard link")
        ino, what = self._linked(entry)
        parent, name = self._place(entry.path)
        self._put_other(parent, name, ino, what)

    def _add_whiteout(self, entry: Entry) -> None:
        self._layers_only(entry)
        if not entry.path:
            raise InvalidEntry("the root cannot be removed by a whiteout")
        parent, name = self._place(entry.path)
        ino, what, _ = self._staging.get(parent, name) or (0, NOTHING, 0)
        self._staging.put(parent, name, (ino, what, 1))

    def _add_opaque(self, entry: Entry) -> None:
        self._layers_only(entry)
        self._staging.mark_opaque(self._directory(entry.path))

    # -- names

    def _set_root(self, item: Item) -> None:
        if not item.is_directory:
            raise InvalidEntry("the root of a tree must be a directory")
        self._staging.set_inode(ROOT_INO, item)

    def _put_directory(self, parent: int, name: bytes, item: Item) -> None:
        ino, what, cut = self._staging.get(parent, name) or (0, NOTHING, 0)
        if what == DIRECTORY:
            self._staging.set_inode(ino, item)
            return
        if what != NOTHING:
            self._forget_paths()
        self._staging.put(parent, name, (self._staging.new_inode(item), DIRECTORY, cut))

    def _put_other(self, parent: int, name: bytes, ino: int, what: int) -> None:
        found = self._staging.get(parent, name)
        if found is not None and found[1] != FILE:
            self._forget_paths()
        self._staging.put(parent, name, (ino, what, 1))

    def _linked(self, entry: Entry) -> tuple[int, int]:
        """What a hard link leads to: an inode of this layer, or a new pending one."""
        steps, name = self._target(entry)
        parent = steps[-1][1]
        found = self._staging.get(parent, name) if parent is not None else None
        if found is None or found[1] == NOTHING:
            path = b"/".join([part for part, _ in steps[1:]] + [name])
            return self._pending(entry, path)
        ino, what, _ = found
        if what == DIRECTORY:
            raise InvalidEntry(f"{rules.shown(entry.path)}: a hard link to a directory")
        if what != PENDING:
            self._staging.mark_linked(ino)
        return ino, what

    def _target(self, entry: Entry) -> tuple[list[Step], bytes]:
        parts = rules.split_path(entry.target)
        if not parts:
            raise InvalidEntry(f"{rules.shown(entry.path)}: a hard link to the root directory")
        if entry.target == entry.path:
            raise InvalidEntry(f"{rules.shown(entry.path)}: a hard link to itself")
        return self._resolve(parts[:-1], entry.path), parts[-1]

    def _pending(self, entry: Entry, path: bytes) -> tuple[int, int]:
        self._layers_only(entry)
        if len(path) > schema.MAX_LINK_PATH_BYTES:
            raise InvalidEntry(f"{rules.shown(entry.path)}: the path it links to is too long")
        return self._staging.new_inode(Item(b"", 0, target=path)), PENDING

    def _layers_only(self, entry: Entry) -> None:
        if self._kind is TreeKind.ROOT:
            raise InvalidEntry(
                f"{rules.shown(entry.path)}: a {entry.kind.name.lower()} of lower layers "
                "in a tree that has none"
            )

    # -- directories

    def _place(self, path: bytes) -> tuple[int, bytes]:
        """The directory that a path's last component belongs in, and that component."""
        parent, slash, name = path.rpartition(b"/")
        if not rules.is_name(name) or (slash and not parent):
            raise InvalidEntry(f"{rules.shown(path)} is no path inside a tree")
        ino = self._directories.get(parent)
        return (ino or self._directory(parent)), name

    def _directory(self, path: bytes) -> int:
        """The directory at ``path``, made if it is not there, through symlinks of this layer."""
        known = self._directories.get(path)
        if known is not None:
            return known
        ino = ROOT_INO
        for name, existing in self._resolve(rules.split_path(path), path)[1:]:
            ino = existing if existing is not None else self._imply(ino, name)
        if len(self._directories) >= _CACHED_DIRECTORIES:
            self._forget_paths()
        self._directories[path] = ino
        return ino

    def _imply(self, parent: int, name: bytes) -> int:
        _, _, cut = self._staging.get(parent, name) or (0, NOTHING, 0)
        ino = self._staging.new_inode(_IMPLIED)
        self._staging.put(parent, name, (ino, DIRECTORY, cut))
        return ino

    def _forget_paths(self) -> None:
        self._directories = {b"": ROOT_INO}

    def _resolve(self, parts: list[bytes], path: bytes) -> list[Step]:
        """Follow components as containerd's fs.RootPath does: never out of the root.

        Returns:
            The directories from the root (its name is empty) to the last component; those that
            are not in this layer have no number.
        """
        steps: list[Step] = [(b"", ROOT_INO)]
        todo = deque(parts)
        hops = 0
        while todo:
            part = todo.popleft()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if len(steps) > 1:
                    steps.pop()
                continue
            ino, what = self._step(steps[-1][1], part, path)
            if what == SYMLINK:
                hops += 1
                target = self._staging.target(ino)
                self._follow(target, steps, todo, hops, path)
            else:
                steps.append((part, ino if what == DIRECTORY else None))
            if len(steps) > MAX_PATH_DEPTH:
                raise InvalidEntry(f"{rules.shown(path)}: too many directories")
        return steps

    def _step(self, parent: int | None, part: bytes, path: bytes) -> tuple[int, int]:
        if not rules.is_name(part):
            raise InvalidEntry(f"{rules.shown(path)}: {rules.shown(part)} is no file name")
        found = self._staging.get(parent, part) if parent is not None else None
        ino, what, _ = found or (0, NOTHING, 0)
        if what in (FILE, PENDING):
            raise InvalidEntry(f"{rules.shown(path)}: {rules.shown(part)} is not a directory")
        return ino, what

    @staticmethod
    def _follow(
        target: bytes, steps: list[Step], todo: deque[bytes], hops: int, path: bytes
    ) -> None:
        if hops > schema.MAX_SYMLINK_HOPS:
            raise InvalidEntry(f"{rules.shown(path)}: a loop of symlinks")
        if target.startswith(b"/"):
            del steps[1:]
        todo.extendleft(reversed(target.split(b"/")))


def _without_flags(item: Item) -> Item:
    """A root has no lower layers that an opaque or implied directory could speak of."""
    item.flags = 0
    return item
