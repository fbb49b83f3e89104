"""OCI image layouts: a directory of blobs by digest, with tags in ``index.json``.

Reading needs no lock: blobs never change, and ``index.json`` is replaced by rename. Writers
hold an exclusive ``flock`` on the directory itself, so that two of them lose nothing of each
other's; a writer killed at any moment leaves at most a temporary file, which the next writer
removes, and blobs that no tag needs.
"""

from __future__ import annotations

import fcntl
import os
import tarfile
from contextlib import contextmanager
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Self

import msgspec

from thinfs import atomic
from thinfs.errors import FormatError, MissingError, StoreError
from thinfs.oci.digest import hex_of, verify
from thinfs.oci.images import read_images
from thinfs.oci.manifest import Index, descriptor_json, parse_document
from thinfs.oci.model import MAX_MANIFEST_BYTES, Descriptor, Image, MediaType, Platform
from thinfs.oci.naming import full_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from thinfs.oci.naming import LayoutName

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
BLOBS = "blobs/sha256"
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
"""Annotation in which containerd, nerdctl and Docker keep an image's full name."""

BLOB_CHUNK_BYTES = 512 << 10
LAYOUT_VERSION = b'{"imageLayoutVersion":"1.0.0"}'


class _LayoutJson(msgspec.Struct, frozen=True, rename="camel"):
    image_layout_version: str


def check_version(data: bytes, what: str) -> None:
    """Check the content of an ``oci-layout`` file.

    Raises:
        FormatError: it is none, or of another major version than 1.
    """
    try:
        version = msgspec.json.decode(data, type=_LayoutJson).image_layout_version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{what}: {LAYOUT_FILE} is malformed: {error}") from error
    if version.split(".")[0] != "1":
        raise FormatError(f"{what} is an OCI image layout of version {version!r}, not 1.x")


def pick(index_json: bytes, tag: str | None, what: str) -> Descriptor:
    """Find the entry of an ``index.json`` that a tag names.

    Args:
        index_json: the file's bytes.
        tag: matches ``org.opencontainers.image.ref.name`` or containerd's full image name;
            ``None`` means the only entry.
        what: names the layout in messages.

    Raises:
        FormatError: it is no index.
        MissingError: no entry has the tag, or none was asked for and there are several; the
            message lists the tags.
    """
    document = parse_document(index_json, MediaType.OCI_INDEX, what)
    entries = document.manifests if isinstance(document, Index) else ()
    wanted = {tag, full_name(tag)}
    found = [entry for entry in entries if tag is None or wanted & _names(entry)]
    if tag is None and len({entry.digest for entry in found}) > 1:
        raise MissingError(f"{what} holds several images, name one of: {_listed(entries)}")
    if not found:
        lacking = f"no image {tag!r}" if tag else "no image"
        raise MissingError(f"{what} holds {lacking}; it has: {_listed(entries)}")
    return found[-1]


def _names(entry: Descriptor) -> set[str | None]:
    return {entry.annotations[key] for key in (REF_NAME, IMAGE_NAME) if key in entry.annotations}


def _listed(entries: Sequence[Descriptor]) -> str:
    tags = sorted({name for entry in entries for name in _names(entry) if name})
    return ", ".join(tags[:20]) or "none with a tag"


class LayoutSource:
    """Images of an OCI image layout directory."""

    def __init__(self, name: LayoutName) -> None:
        self._name = name

    def images(self, platforms: Sequence[Platform] | None) -> list[Image]:
        """See :class:`~thinfs.oci.source.ImageSource`."""
        directory, what = self._name.path, str(self._name.path)
        check_version(_read_bounded(directory / LAYOUT_FILE, 1 << 10), what)
        index = _read_bounded(directory / INDEX_FILE, MAX_MANIFEST_BYTES)
        root = pick(index, self._name.tag, what)
        name = self._name.image_name(
            root.annotations.get(IMAGE_NAME) or root.annotations.get(REF_NAME)
        )
        return read_images(name, root, self._read, platforms)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """See :class:`~thinfs.oci.source.ImageSource`."""
        path = self._name.path / BLOBS / hex_of(descriptor.digest)
        with _open(path) as file:
            yield file_chunks(file, os.fstat(file.fileno()).st_size)

    def close(self) -> None:
        """Nothing is kept open."""

    def _read(self, descriptor: Descriptor) -> bytes:
        path = self._name.path / BLOBS / hex_of(descriptor.digest)
        return _read_bounded(path, descriptor.size)


def file_chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """The next ``size`` bytes of a file, or fewer when it ends, in chunks of 512 KiB."""
    while size > 0:
        chunk = file.read(min(size, BLOB_CHUNK_BYTES))
        if not chunk:
            return
        size -= len(chunk)
        yield chunk


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def entries_of(index: Path) -> tuple[Descriptor, ...]:
    """The entries of an ``index.json``; none when there is no such file.

    Raises:
        FormatError: it is no index.
    """
    if not index.exists():
        return ()
    document = parse_document(
        _read_bounded(index, MAX_MANIFEST_BYTES), MediaType.OCI_INDEX, str(index)
    )
    return document.manifests if isinstance(document, Index) else ()


def _read_bounded(path: Path, limit: int) -> bytes:
    with _open(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FormatError(f"{path} is larger than the {limit} bytes it may have")
    return data


class LayoutWriter:
    """Writes images into an OCI image layout, which it makes when there is none.

    A context manager: it holds the layout's lock from enter to exit. Blobs go in first, then
    the tag that needs them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._blobs = directory / BLOBS
        self._lock = -1

    def __enter__(self) -> Self:
        """Take the lock, and make what a layout has.

        Raises:
            StoreError: the directory cannot be written.
            FormatError: there is something else in its place.
        """
        with _store_errors(self._directory):
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                self._prepare()
            except BaseException:
                os.close(self._lock)
                raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._lock)

    def put(self, descriptor: Descriptor, data: bytes) -> None:
        """Write one blob durably; one that is there already is left alone.

        Raises:
            IntegrityError: the bytes do not have the descriptor's digest.
            StoreError: the disk failed.
        """
        verify(data, descriptor.digest, str(self._directory))
        path = self._blobs / hex_of(descriptor.digest)
        with _store_errors(self._directory):
            if not (path.exists() and path.stat().st_size == len(data)):
                atomic.write(path, data)

    def tag(self, descriptor: Descriptor, name: str, image_name: str | None = None) -> None:
        """Let ``name`` stand for a manifest or index whose blobs are all here.

        Args:
            descriptor: of the manifest or index.
            name: the tag; an entry that had it loses it.
            image_name: full name for containerd, beside the tag.
        """
        annotations = {REF_NAME: name} | ({IMAGE_NAME: image_name} if image_name else {})
        named = tagged(descriptor, annotations)
        with _store_errors(self._directory):
            entries = [entry for entry in self._entries() if _tag_of(entry) != name]
            atomic.write(self._directory / INDEX_FILE, render_index([*entries, named]))

    def find(self, name: str) -> Descriptor | None:
        """What a tag stands for, ``None`` when there is no such tag."""
        path = self._directory / INDEX_FILE
        found = [entry for entry in entries_of(path) if entry.annotations.get(REF_NAME) == name]
        return found[-1] if found else None

    def untag(self, name: str) -> None:
        """Let a tag stand for nothing any more; its blobs stay."""
        with _store_errors(self._directory):
            entries = [entry for entry in self._entries() if _tag_of(entry) != name]
            atomic.write(self._directory / INDEX_FILE, render_index(entries))

    def _entries(self) -> list[Any]:
        path = self._directory / INDEX_FILE
        if not path.exists():
            return []
        data = _read_bounded(path, MAX_MANIFEST_BYTES)
        parse_document(data, MediaType.OCI_INDEX, str(path))
        entries: list[Any] = msgspec.json.decode(data)["manifests"]
        return entries

    def _prepare(self) -> None:
        marker = self._directory / LAYOUT_FILE
        if marker.exists():
            check_version(_read_bounded(marker, 1 << 10), str(self._directory))
        else:
            atomic.write(marker, LAYOUT_VERSION)
        self._entries()
        # we hold the lock: temporaries here are those of a writer that was killed
        for folder in (self._directory, self._blobs):
            for left in folder.glob(".*.*"):
                if left.is_file():
                    left.unlink()


@contextmanager
def _store_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write OCI layout {directory}: {error.strerror}") from error


def _tag_of(entry: dict[str, Any]) -> str | None:
    annotations: dict[str, str] = entry.get("annotations") or {}
    return annotations.get(REF_NAME)


def tagged(descriptor: Descriptor, annotations: dict[str, str]) -> dict[str, Any]:
    """A descriptor as an entry of ``index.json``."""
    entry = descriptor_json(descriptor)
    entry["annotations"] = dict(sorted({**descriptor.annotations, **annotations}.items()))
    return entry


def render_index(entries: Sequence[dict[str, Any]]) -> bytes:
    """An ``index.json`` with these entries."""
    index = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": entries}
    return msgspec.json.encode(index)


def write_archive(
    stream: IO[bytes],
    blobs: Iterable[tuple[Descriptor, bytes]],
    root: Descriptor,
    annotations: dict[str, str],
) -> None:
    """Write an OCI layout as a tar stream: the same bytes for the same image.

    Args:
        stream: where to; need not be seekable.
        blobs: all blobs, the manifest or index among them.
        root: what the one entry of ``index.json`` names.
        annotations: of that entry: tag and image name.
    """
    files = {f"{BLOBS}/{hex_of(blob.digest)}": data for blob, data in blobs}
    files[INDEX_FILE] = render_index([tagged(root, annotations)])
    files[LAYOUT_FILE] = LAYOUT_VERSION
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
        for folder in ("blobs", BLOBS):
            archive.addfile(_member(folder, tarfile.DIRTYPE, 0o755, 0))
        for path, data in sorted(files.items()):
            archive.addfile(_member(path, tarfile.REGTYPE, 0o644, len(data)), BytesIO(data))


def _member(path: str, kind: bytes, mode: int, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)  # owner 0:0 and mtime 0 are its defaults
    info.type, info.mode, info.size = kind, mode, size
    return info
