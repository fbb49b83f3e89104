"""The published files of images, from this machine's repository or from others that are allowed.

Nothing is believed before its digest was compared; whoever has the right bytes first gives them.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from catalog.errors import CatalogError
from catalog.reader import CatalogReader
from thinfs.errors import FormatError, MissingError, StoreError, ThinfsError
from thinfs.fetch.verify import stored_bound
from thinfs.oci.recipe import parse_recipe
from thinfs.repository import accept
from thinfs.repository.files import MAX_FRAME_CONTENT
from thinfs.roots.recipes import find_recipe
from thinfs.store.allow import is_allowed
from thinfs.store.layout import (
    MAX_STORED_OBJECT_BYTES,
    catalog_path,
    object_path,
    raw_digest,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from catalog.model import ObjectRef
    from thinfs.config import Config
    from thinfs.oci.recipe import BlobRef, Recipe
    from thinfs.repository.problems import Accept
    from thinfs.repository.sources import Remote
    from thinfs.store.records import PublishedFile


AT_ONCE: Final = 16
"""Objects that are on their way at once: at most 16 MiB."""


def recipe_of(name: str, config: Config) -> Recipe:
    """The recipe of what a user names; it has a merged root.

    Raises:
        MissingError: there is no such image.
        FormatError: it is an ordinary image, or names no merged root.
        ThinfsError: whatever registries and layouts raise.
    """
    recipe = parse_recipe(find_recipe(name, config).encode())
    if recipe.thinfs is None:
        raise FormatError(f"{name} names layers only and no merged root: thinfs convert it again")
    return recipe


def places_of(recipes: Sequence[Recipe], config: Config) -> list[str]:
    """Where to read what recipes name: the local repository, mirrors, then what they ask for.

    Addresses that this machine's configuration does not allow are left out.
    """
    wanted = [url for recipe in recipes if recipe.thinfs for url in recipe.thinfs.repositories]
    allowed = [url for url in wanted if is_allowed(url, config.sources, config.repository)]
    local = [config.repository.path] if Path(config.repository.path).is_dir() else []
    return list(dict.fromkeys([*local, *config.sources.mirrors, *allowed]))


class Stock:
    """Files of several repositories as if they were one.

    Args:
        remotes: repositories in order of preference.
        work: a directory for temporaries.
    """

    def __init__(self, remotes: Sequence[Remote], work: Path) -> None:
        self._remotes = remotes
        self._work = work

    def copy(self, path: str, max_bytes: int, test: Accept) -> Path:
        """A file that passes a test; the caller may move or remove it.

        Args:
            path: below the repositories.
            max_bytes: most bytes that are read.
            test: raises when a copy is not what it should be.

        Raises:
            MissingError: nobody has it.
            IntegrityError: those who have it have it damaged.
            TransportError: nobody could be asked.
        """
        failures: list[ThinfsError] = []
        target = self._work / path.replace("/", "-")
        for remote in self._remotes:
            try:
                with target.open("wb") as file:
                    remote.copy(path, max_bytes, file)
                test(target)
            except ThinfsError as error:
                failures.append(error)
            except OSError as error:
                raise StoreError(f"{target}: {error.strerror}") from error
            else:
                return target
        target.unlink(missing_ok=True)
        raise _worst(path, failures)

    def unpacked(self, path: str, ref: BlobRef | PublishedFile) -> Path:
        """What is in a published file, as a file that the caller may remove.

        Raises:
            ThinfsError: as :meth:`copy`.
        """
        if ref.size > MAX_FRAME_CONTENT[path.partition("/")[0]]:
            raise FormatError(f"{path} is said to have {ref.size} bytes")
        target = self._work / f"{path.replace('/', '-')}.unpacked"
        test = partial(accept.unpacked, ref.size, raw_digest(ref.digest), target)
        self.copy(path, stored_bound(ref.size), test).unlink()
        return target

    def objects(self, refs: Iterable[ObjectRef]) -> Iterator[tuple[bytes, bytes]]:
        """Objects as they are stored, with their digests, in the order in which they are named.

        Several are on their way at once.

        Raises:
            ThinfsError: as :meth:`copy`.
        """
        wanted = iter(refs)
        while window := list(itertools.islice(wanted, AT_ONCE)):
            paths = [object_path(ref.digest) for ref in window]
            frames: Sequence[bytes | None] = [None] * len(window)
            if self._remotes:
                frames = self._remotes[0].get_all(paths, MAX_STORED_OBJECT_BYTES)
            for ref, path, frame in zip(window, paths, frames, strict=True):
                if frame is None or not _is(ref, frame):
                    frame = self._object(ref, path)  # noqa: PLW2901 - the first one has it not
                yield ref.digest, frame

    def _object(self, ref: ObjectRef, path: str) -> bytes:
        test = partial(accept.stored_object, ref.size, ref.digest)
        file = self.copy(path, MAX_STORED_OBJECT_BYTES, test)
        frame = file.read_bytes()
        file.unlink()
        return frame

    @contextmanager
    def catalog(self, ref: BlobRef | PublishedFile) -> Iterator[CatalogReader]:
        """An open catalog.

        Raises:
            FormatError: its digest is right, and it is no catalog.
            ThinfsError: as :meth:`copy`.
        """
        file = self.unpacked(catalog_path(raw_digest(ref.digest)), ref)
        try:
            with CatalogReader.open(file) as reader:
                yield reader
        except CatalogError as error:
            raise FormatError(f"catalog {ref.digest}: {error}") from error
        finally:
            file.unlink()


def _is(ref: ObjectRef, frame: bytes) -> bool:
    try:
        accept.object_bytes(ref.size, ref.digest, frame)
    except ThinfsError:
        return False
    return True


def _worst(path: str, failures: Sequence[ThinfsError]) -> ThinfsError:
    """Damage and silence before absence: they may pass."""
    for failure in failures:
        if not isinstance(failure, MissingError):
            return failure
    if failures:
        return failures[0]
    return MissingError(
        f"{path}: no repository to ask: add one that the recipe names to allow in [sources]"
    )
