"""Repositories made by hand from a plain description of a tree, without the converter."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard

from catalog.model import Content, Entry, EntryKind, Extent, ObjectRef, TreeKind
from catalog.writer import CatalogWriter
from thinfs.oci.recipe import (
    RECIPE_VERSION,
    BlobRef,
    Recipe,
    RecipeExtension,
    RecipeRoot,
    render_recipe,
)
from thinfs.store.layout import MAX_OBJECT_BYTES, SMALL_CONTENT_BYTES, object_path
from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from catalog.model import Xattrs

BUNDLE_BYTES = 256 << 10
MTIME_NS = 1_234_567_890_123_456_789


@dataclass(frozen=True, slots=True)
class MadeRoot:
    """One root in a repository.

    Attributes:
        recipe: its ``thin.json``.
        objects: digests of the objects of each file, by path.
    """

    recipe: Recipe
    objects: dict[bytes, list[bytes]]

    @property
    def text(self) -> str:
        """The recipe as text."""
        return render_recipe(self.recipe).decode()

    @property
    def id(self) -> str:
        """What names the root below ``trees/``."""
        assert self.recipe.thinfs is not None
        return self.recipe.thinfs.root.catalog.digest.removeprefix("sha256:")[:16]


@dataclass(frozen=True, slots=True)
class Tree:
    """A description: entries, and the bodies of their files by path."""

    entries: tuple[Entry, ...]
    bodies: dict[bytes, bytes]


def directory(path: bytes, mode: int = 0o755, **attributes: object) -> tuple[Entry, bytes]:
    """A directory."""
    return _node(path, stat.S_IFDIR | mode, attributes), b""


def file(
    path: bytes, body: bytes = b"", mode: int = 0o644, **attributes: object
) -> tuple[Entry, bytes]:
    """A regular file."""
    digest = hashlib.sha256(body).digest() if body else None
    values = {"size": len(body), "content": digest, **attributes}
    return _node(path, stat.S_IFREG | mode, values), body


def symlink(path: bytes, target: bytes, **attributes: object) -> tuple[Entry, bytes]:
    """A symbolic link."""
    values = {"target": target, "size": len(target), **attributes}
    return _node(path, stat.S_IFLNK | 0o777, values), b""


def special(
    path: bytes, mode: int, rdev: tuple[int, int] = (0, 0), **attributes: object
) -> tuple[Entry, bytes]:
    """A device, fifo or socket; ``mode`` says which."""
    return _node(path, mode, {"rdev": rdev, **attributes}), b""


def hardlink(path: bytes, target: bytes) -> tuple[Entry, bytes]:
    """One more name of another entry."""
    return Entry(path, EntryKind.HARDLINK, target=target), b""


def tree(*parts: tuple[Entry, bytes]) -> Tree:
    """A description from its parts, parents first."""
    bodies = {entry.path: body for entry, body in parts if body}
    return Tree(tuple(entry for entry, _ in parts), bodies)


def many_files(path: bytes, count: int) -> Iterable[tuple[Entry, bytes]]:
    """A directory with this many small files, each with other bytes."""
    yield directory(path)
    for number in range(count):
        yield file(b"%s/file-%05d" % (path, number), b"body of %d\n" % number)


def make_root(
    repository: Path, description: Tree, *, urls: Sequence[str] = (), origin: str = "test/image:1"
) -> MadeRoot:
    """Write a tree into a repository, which is made when there is none.

    Args:
        repository: its directory.
        description: the tree.
        urls: what the recipe says where the repository is; by default its ``file:`` address.
        origin: what the recipe says it was made from.
    """
    local = LocalRepository.open_or_create(repository)
    objects, by_body = _pack(description.bodies.values())
    contents = {path: by_body[body] for path, body in description.bodies.items()}
    with local.converting() as work:
        catalog = work / "root.sqlite"
        with CatalogWriter(catalog, TreeKind.ROOT) as writer:
            for body in objects:
                frame = zstandard.compress(body)
                digest = hashlib.sha256(body).digest()
                stored, _ = local.put_object(digest, frame, work)
                writer.add_object(ObjectRef(digest, len(body), stored))
            for content in by_body.values():
                writer.add_content(content)
            for entry in description.entries:
                writer.add(entry)
            writer.finish()
        ref = local.publish_catalog(catalog, work)
    root = RecipeRoot(
        chain_id="sha256:" + hashlib.sha256(origin.encode()).hexdigest(),
        catalog=BlobRef(digest=ref.digest, size=ref.size, stored_size=ref.stored_size),
    )
    recipe = Recipe(
        version=RECIPE_VERSION,
        origin=origin,
        layers=[],
        thinfs=RecipeExtension(
            repositories=list(urls) or [repository.absolute().as_uri()], root=root
        ),
    )
    used = {
        path: list(dict.fromkeys(extent.object for extent in content.extents))
        for path, content in contents.items()
    }
    return MadeRoot(recipe, used)


def object_file(repository: Path, digest: bytes) -> Path:
    """The stored file of an object."""
    return repository / object_path(digest)


def _pack(bodies: Iterable[bytes]) -> tuple[list[bytes], dict[bytes, Content]]:
    """Large bodies in chunks of 1 MiB, small ones one behind the other in bundles.

    Returns:
        The objects, and each body's content.
    """
    objects: list[bytes] = []
    runs: dict[bytes, list[tuple[int, int, int, int]]] = {}
    bundle, number = bytearray(), -1
    for body in dict.fromkeys(bodies):
        if len(body) >= SMALL_CONTENT_BYTES:
            starts = range(0, len(body), MAX_OBJECT_BYTES)
            chunks = [body[start : start + MAX_OBJECT_BYTES] for start in starts]
            runs[body] = [
                (start, len(chunk), len(objects) + at, 0)
                for at, (start, chunk) in enumerate(zip(starts, chunks, strict=True))
            ]
            objects += chunks
            continue
        if number < 0 or len(bundle) + len(body) > BUNDLE_BYTES:
            bundle, number = bytearray(), len(objects)
            objects.append(b"")
        runs[body] = [(0, len(body), number, len(bundle))]
        bundle += body
        objects[number] = bytes(bundle)
    digests = [hashlib.sha256(each).digest() for each in objects]
    contents = {
        body: Content(
            hashlib.sha256(body).digest(),
            len(body),
            tuple(Extent(start, length, digests[at], inside) for start, length, at, inside in run),
        )
        for body, run in runs.items()
    }
    return objects, contents


def _node(path: bytes, mode: int, attributes: dict[str, object]) -> Entry:
    values = {"mtime_ns": MTIME_NS, **attributes}
    return Entry(path, EntryKind.NODE, mode=mode, **values)  # type: ignore[arg-type] # the builders name fields of Entry only


def xattrs(**values: bytes) -> Xattrs:
    """Extended attributes of the namespace ``user.``."""
    return tuple(sorted((b"user." + name.encode(), value) for name, value in values.items()))
