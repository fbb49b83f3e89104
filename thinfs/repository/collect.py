"""Removing what no image needs, in two steps: an image loses its name, its files go later.

What stays, and what it needs, is worked out first, beside converters at work. Then, in slices
of a few seconds, the collector works alone: it looks what has come since, and removes what is
still not needed, records first. What is true at each moment, and why a collector may be killed
at any of them, is in docs/repository.md.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Protocol

from thinfs.errors import MissingError, StoreError
from thinfs.oci.kept import forget_removed, named_images, removed_images
from thinfs.oci.layout import INDEX_FILE as LAYOUT_INDEX
from thinfs.repository.files import BLOB_FOLDER, FRAME_FOLDERS, RECORD_FOLDERS, File, files_in
from thinfs.repository.images import stored_image
from thinfs.repository.needs import Needs
from thinfs.store.index import ContentIndex
from thinfs.store.layout import IMAGES_DIRECTORY, INDEX_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thinfs.oci.kept import RemovedImage
    from thinfs.store.local import LocalRepository

log = logging.getLogger(__name__)

HOLD_S: Final = 3.0
"""About how long converters are kept out at a time."""

BATCH: Final = 2000
"""Files that are removed between two looks at the clock."""


class CollectProgress(Protocol):
    """Hears how far a collection is."""

    def stage(self, what: str) -> None:
        """Another part of the work begins."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be removed, and how.

    Attributes:
        grace_s: seconds since an image lost its name, or since an unneeded file was written,
            during which nothing of it is removed.
        wait_s: longest time to wait for converters at work while new ones are kept out.
        now_s: seconds since 1970.
        dry_run: only say what would be removed.
    """

    grace_s: float
    wait_s: float
    now_s: float
    dry_run: bool = False

    @property
    def cutoff_s(self) -> float:
        """What is not older than this stays."""
        return self.now_s - self.grace_s


@dataclass(slots=True)
class Pile:
    """Some files. Bytes are as stored."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more file."""
        self.files += 1
        self.bytes += size


@dataclass(slots=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        images: how many images have names.
        waiting: images without names whose grace time has not passed, oldest first.
        expired: images without names whose grace time has passed.
        removed: by folder.
        needed: what images need, those without names in their grace time among them.
        young: what no image needs, and is too young to go.
    """

    images: int = 0
    waiting: tuple[RemovedImage, ...] = ()
    expired: tuple[RemovedImage, ...] = ()
    removed: dict[str, Pile] = field(default_factory=dict)
    needed: Pile = field(default_factory=Pile)
    young: Pile = field(default_factory=Pile)

    @property
    def total(self) -> Pile:
        """Everything that was removed."""
        piles = self.removed.values()
        return Pile(sum(pile.files for pile in piles), sum(pile.bytes for pile in piles))


def collect(repository: LocalRepository, terms: Terms, progress: CollectProgress) -> Collected:
    """Remove what no image has needed for the grace time.

    Args:
        repository: where from.
        terms: what may go.
        progress: hears how far it is.

    Raises:
        MissingError: there is no list of names, or something that says what an image needs is
            not there; nothing is removed then.
        StoreError: converters were at work for too long, or the disk refused.
        IntegrityError: such a thing is damaged; nothing is removed.
        FormatError: the repository holds what this program does not understand.
    """
    return _Collector(repository, terms, progress).run()


def _refuse_without_names(repository: Path) -> None:
    """A lost list of names must not be taken for one without names."""
    index = repository / IMAGES_DIRECTORY / LAYOUT_INDEX
    if not index.exists():
        raise MissingError(
            f"{index} is not there: without names everything would go;"
            " bring it back (thinfs check --repair --from URL), or delete the whole repository"
        )


class _Collector:
    def __init__(
        self, repository: LocalRepository, terms: Terms, progress: CollectProgress
    ) -> None:
        self._repository = repository
        self._terms = terms
        self._progress = progress
        self._done = Collected()
        self._needs = Needs(repository.path, Path())
        self._kept: set[object] = set()
        self._expired: tuple[RemovedImage, ...] = ()

    def run(self) -> Collected:
        with self._beside_converters() as work:
            self._progress.stage("looking what images need")
            self._keep(work)
            self._progress.stage("looking what there is")
            records, others = self._sorted()
        self._done.expired = self._expired
        if self._terms.dry_run:
            for file in (*records, *others):
                self._count(file)
            return self._done
        self._progress.stage("removing what no image needs")
        self._remove(records)
        self._remove(others)
        return self._done

    @contextmanager
    def _beside_converters(self) -> Iterator[Path]:
        if self._terms.dry_run:  # changes nothing, and needs no right to
            with TemporaryDirectory(prefix="thinfs-") as work:
                yield Path(work)
        else:
            with self._repository.converting() as place:
                yield place

    def _keep(self, work: Path) -> None:
        """Work out what is needed; what was looked at before is not read again."""
        path, needs = self._repository.path, self._needs
        needs.work = work
        _refuse_without_names(path)
        named, removed = named_images(path), removed_images(path)
        cutoff = self._terms.cutoff_s
        waiting = tuple(note for note in removed if note.removed_at > cutoff)
        self._expired = tuple(note for note in removed if note.removed_at <= cutoff)
        self._done.images, self._done.waiting = len(named), waiting
        roots = [(image.name, image.root) for image in named]
        for name, root in (*roots, *((note.name, note.root) for note in waiting)):
            if root.digest not in self._kept:
                needs.add_image(stored_image(path, name or root.digest, root))
                self._kept.add(root.digest)
        # A record that stays because it is young must not promise what goes.
        for folder in RECORD_FOLDERS:
            for file in files_in(path, folder):
                if file.digest is None or file.mtime_s <= cutoff:
                    continue
                if (file.path, file.mtime_s) not in self._kept:
                    needs.add_record(file.path)
                    self._kept.add((file.path, file.mtime_s))

    def _sorted(self) -> tuple[deque[File], deque[File]]:
        """What may go: records, and the rest."""
        path = self._repository.path
        piles = (deque[File](), deque[File]())
        for pile, folders in zip(
            piles, (RECORD_FOLDERS, (BLOB_FOLDER, *FRAME_FOLDERS)), strict=True
        ):
            for folder in folders:
                for file in files_in(path, folder):
                    if self._is_needed(file):
                        self._done.needed.add(file.size)
                    elif file.mtime_s > self._terms.cutoff_s:
                        self._done.young.add(file.size)
                    else:
                        pile.append(file)
        return piles

    def _is_needed(self, file: File) -> bool:
        if file.folder == "objects":
            return file.digest in self._needs.objects
        return file.path in self._needs.files

    def _remove(self, doomed: deque[File]) -> None:
        """Remove files in slices, and look before each what has come to be needed."""
        while doomed or self._expired:
            with self._repository.collecting(self._terms.wait_s) as work:
                self._keep(work)
                self._forget_expired()
                until = time.monotonic() + HOLD_S
                while doomed and time.monotonic() < until:
                    self._remove_batch([doomed.popleft() for _ in range(min(BATCH, len(doomed)))])
                self._repository.sync()  # records are gone before what they name

    def _forget_expired(self) -> None:
        """First of all: afterwards nobody looks for what such an image needs."""
        gone = {note.digest for note in self._expired}
        if gone:
            forget_removed(self._repository.path, lambda note: note.digest in gone)
        self._expired = ()

    def _remove_batch(self, files: Sequence[File]) -> None:
        going = [file for file in files if not self._is_needed(file) and self._is_still(file)]
        self._forget([file.digest for file in going if file.folder == "objects" and file.digest])
        for file in going:
            try:
                (self._repository.path / file.path).unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(
                    f"{self._repository.path}/{file.path}: {error.strerror}"
                ) from error
            self._count(file)

    def _is_still(self, file: File) -> bool:
        """Whether it is the file that was seen: one that was written anew is young."""
        try:
            return (self._repository.path / file.path).stat().st_mtime == file.mtime_s
        except OSError:
            return False

    def _forget(self, objects: Sequence[bytes]) -> None:
        """Let the converters' index forget objects before they go."""
        path = self._repository.path / INDEX_FILE
        if objects and path.exists():
            index = ContentIndex(path)
            try:
                index.forget(objects)
            finally:
                index.close()

    def _count(self, file: File) -> None:
        self._done.removed.setdefault(file.folder, Pile()).add(file.size)
