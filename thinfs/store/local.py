"""A repository on a local disk, as converters write it.

Every file is written under ``tmp/`` and gets its name in one step, so a reader, a second
converter or a killed one never sees half a file. Objects and catalogs are linked, never
renamed: the first to arrive stays, and what a catalog says of its stored size stays true.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

import zstandard

from thinfs import atomic
from thinfs.errors import FormatError, MissingError, StoreError
from thinfs.store.boot import render_boot
from thinfs.store.layout import (
    FORMAT_VERSION,
    LOCK_FILE,
    REPOSITORY_FILE,
    TEMPORARY_DIRECTORY,
    boot_path,
    catalog_path,
    layer_path,
    metadata_path,
    object_path,
    raw_digest,
    root_path,
)
from thinfs.store.locks import exclusive, shared
from thinfs.store.records import (
    LayerRecord,
    PublishedFile,
    RepositoryRecord,
    RootRecord,
    check_format,
    parse_record,
    render_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import msgspec

    from thinfs.store.boot import BootRecord

COPY_BYTES = 1 << 20
METADATA_LEVEL = 9
"""zstd level of catalogs and metadata images: made once, on every node's way to a first start."""

T = TypeVar("T")


class LocalRepository:
    """A repository directory.

    Methods may be called from several threads. All raise :class:`StoreError` when the disk
    refuses (full, read-only, permissions); the message names the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> LocalRepository:
        """Open a repository that exists.

        Raises:
            MissingError: there is none at ``path``.
            FormatError: it has another format.
        """
        try:
            data = (path / REPOSITORY_FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingError(f"{path} is not a thinfs repository") from error
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        check_format(parse_record(data, RepositoryRecord, f"{path}/{REPOSITORY_FILE}"), str(path))
        return cls(path)

    @classmethod
    def open_or_create(cls, path: Path) -> LocalRepository:
        """Open the repository at ``path``, making an empty one where there is nothing.

        Raises:
            StoreError: ``path`` holds something else, or cannot be written.
            FormatError: it is a repository of another format.
        """
        try:
            return cls.open(path)
        except MissingError:
            pass
        with _disk(path):
            path.mkdir(parents=True, exist_ok=True)
            foreign = [p.name for p in path.iterdir() if not p.name.startswith(".")]
            if foreign and set(foreign) != {LOCK_FILE}:
                raise StoreError(
                    f"{path} is neither empty nor a thinfs repository; choose another directory"
                )
            record = RepositoryRecord(format=FORMAT_VERSION)
            atomic.write(path / REPOSITORY_FILE, render_record(record))
        return cls(path)

    @contextmanager
    def converting(self) -> Iterator[Path]:
        """Be one of the repository's converters; gives a directory of its own for temporaries.

        Several converters may work at once; nothing is removed from the repository meanwhile
        (:mod:`thinfs.store.locks`). The directories of converters that were killed are removed
        first: a living one holds a lock on its own.
        """
        with ExitStack() as stack:
            with _disk(self.path):
                stack.enter_context(shared(self.path))
                work = stack.enter_context(self._working())
            yield work

    @contextmanager
    def collecting(self, wait_s: float) -> Iterator[Path]:
        """Be the only one who works on the repository; gives a directory for temporaries.

        Args:
            wait_s: longest time to wait for converters at work, while new ones are kept out.

        Raises:
            StoreError: converters were still at work then.
        """
        with ExitStack() as stack:
            with _disk(self.path):
                stack.enter_context(exclusive(self.path, wait_s))
                work = stack.enter_context(self._working())
            yield work

    def stored_object_size(self, digest: bytes) -> int | None:
        """Bytes of an object as stored, ``None`` when it is not here.

        An empty file, what a power cut may leave of a fresh one, counts as not here.
        """
        return self._size(object_path(digest))

    def put_object(self, digest: bytes, frame: bytes, work: Path) -> tuple[int, bool]:
        """Store an object's zstd frame.

        Returns:
            The stored size of what is there afterwards, and whether it is this frame: another
            converter, or another thread, may have been faster.
        """
        target = self.path / object_path(digest)
        with _disk(target):
            temporary = work / f"o-{digest.hex()}-{secrets.token_hex(4)}"
            temporary.write_bytes(frame)
            new = _appear(temporary, target)
            return len(frame) if new else target.stat().st_size, new

    def publish_catalog(self, file: Path, work: Path) -> PublishedFile:
        """Compress and store a finished catalog.

        Args:
            file: the SQLite file, complete and closed.
            work: the converter's directory for temporaries.
        """
        return self._publish(file, catalog_path, work)

    def publish_metadata(self, file: Path, work: Path) -> PublishedFile:
        """Compress and store a metadata image, as :meth:`publish_catalog` does a catalog."""
        return self._publish(file, metadata_path, work)

    def publish_boot(self, record: BootRecord, work: Path) -> PublishedFile:
        """Compress and store a boot record, as :meth:`publish_catalog` does a catalog."""
        file = work / f"boot-{secrets.token_hex(4)}.json"
        with _disk(file):
            file.write_bytes(render_boot(record))
            try:
                return self._publish(file, boot_path, work)
            finally:
                file.unlink()

    def adopt(self, file: Path, path: str) -> None:
        """Give a complete and verified file its name; what has the name already stays.

        Args:
            file: in a converter's directory for temporaries; it is gone afterwards.
            path: as ``thinfs.store.layout`` names it.
        """
        target = self.path / path
        with _disk(target):
            file.chmod(0o644)
            _appear(file, target)

    def has_root(self, record: RootRecord) -> bool:
        """Whether all files of a root that its record names are here, with their sizes.

        These are its catalog, its metadata image and its boot record; not the objects.
        """
        files = [
            (record.catalog, catalog_path),
            (record.metadata, metadata_path),
            (record.boot, boot_path),
        ]
        return all(
            self._size(path_of(raw_digest(ref.digest))) == ref.stored_size
            for ref, path_of in files
            if ref is not None
        )

    def unpack_catalog(self, ref: PublishedFile, target: Path) -> bool:
        """Write a published catalog's SQLite file to ``target``.

        Returns:
            False when the repository does not hold it, or holds other bytes than its name says.
        """
        return self._unpack(ref, catalog_path, target)

    def unpack_metadata(self, ref: PublishedFile, target: Path) -> bool:
        """Write a published metadata image to ``target``, as :meth:`unpack_catalog` does."""
        return self._unpack(ref, metadata_path, target)

    def layer_record(self, digest: bytes) -> LayerRecord | None:
        """What the layer with this compressed digest became, ``None`` when it is not here."""
        return self._record(layer_path(digest), LayerRecord)

    def root_record(self, chain_id: bytes) -> RootRecord | None:
        """What the chain of layers became, ``None`` when it is not here."""
        return self._record(root_path(chain_id), RootRecord)

    def put_layer_record(self, digest: bytes, record: LayerRecord) -> None:
        """Publish a layer: from now on other conversions count on its catalog and objects."""
        self._put_record(layer_path(digest), record)

    def put_root_record(self, chain_id: bytes, record: RootRecord) -> None:
        """Publish a root."""
        self._put_record(root_path(chain_id), record)

    def sync(self) -> None:
        """Wait until everything written so far would survive a power cut (``syncfs(2)``)."""
        try:
            atomic.sync_file_system(self.path)
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot write everything to disk: {error.strerror}"
            ) from error

    @contextmanager
    def _working(self) -> Iterator[Path]:
        base = self.path / TEMPORARY_DIRECTORY
        base.mkdir(exist_ok=True)
        work, handle = _claim(base)
        try:
            _sweep(base)
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
            os.close(handle)

    def _size(self, path: str) -> int | None:
        try:
            return (self.path / path).stat().st_size or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path}/{path}: {error.strerror}") from error

    def _publish(self, file: Path, path_of: Callable[[bytes], str], work: Path) -> PublishedFile:
        temporary = work / f"{file.name}.zst"
        digest = hashlib.sha256()
        size = file.stat().st_size
        compressor = zstandard.ZstdCompressor(level=METADATA_LEVEL, write_checksum=True)
        with (
            _disk(temporary),
            file.open("rb") as source,
            temporary.open("wb") as sink,
            compressor.stream_writer(sink, size=size, closefd=False) as writer,
        ):
            while block := source.read(COPY_BYTES):
                digest.update(block)
                writer.write(block)
        target = self.path / path_of(digest.digest())
        with _disk(target):
            _appear(temporary, target)
            stored = target.stat().st_size
        return PublishedFile(digest=f"sha256:{digest.hexdigest()}", size=size, stored_size=stored)

    def _unpack(self, ref: PublishedFile, path_of: Callable[[bytes], str], target: Path) -> bool:
        source = self.path / path_of(raw_digest(ref.digest))
        digest = hashlib.sha256()
        try:
            with source.open("rb") as packed, target.open("wb") as sink:
                for block in zstandard.ZstdDecompressor().read_to_iter(packed, COPY_BYTES):
                    digest.update(block)
                    sink.write(block)
        except FileNotFoundError:
            return False
        except zstandard.ZstdError:
            return False
        except OSError as error:
            raise StoreError(f"{source}: {error.strerror}") from error
        return f"sha256:{digest.hexdigest()}" == ref.digest

    def _record(self, path: str, kind: type[T]) -> T | None:
        try:
            data = (self.path / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path}/{path}: {error.strerror}") from error
        try:
            return parse_record(data, kind, path)
        except FormatError:  # damaged: converting again writes it anew
            return None

    def _put_record(self, path: str, record: msgspec.Struct) -> None:
        target = self.path / path
        with _disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(target, render_record(record))


def _claim(base: Path) -> tuple[Path, int]:
    """A fresh directory below ``base`` and a descriptor that holds its lock.

    Until it is locked, another converter may take it for what a killed one has left.
    """
    while True:
        work = base / f"{os.getpid()}-{secrets.token_hex(4)}"
        work.mkdir()
        try:
            handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if work.exists():
            return work, handle
        os.close(handle)


def _sweep(base: Path) -> None:
    """Remove directories whose converter is gone."""
    for left in base.iterdir():
        try:
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)


def _appear(temporary: Path, target: Path) -> bool:
    """Give a complete file its name; what has the name already stays, unless it is empty.

    Returns:
        Whether the name stands for this file now.
    """
    new = True
    try:
        os.link(temporary, target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        return _appear(temporary, target)
    except FileExistsError:
        if target.stat().st_size == 0:
            temporary.replace(target)
            return True
        new = False
    temporary.unlink()
    return new


@contextmanager
def _disk(what: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}") from error
