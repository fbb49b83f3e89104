"""Images in tar files: ``oci-archive`` and what ``docker save`` writes.

The tar file itself is not compressed: its members are found once, and then read where they
are. ``docker save`` output is read by its ``manifest.json``, which both the old form
(``<id>/layer.tar``) and the one of today (``blobs/sha256/<digest>``) have.
"""

from __future__ import annotations

import errno
import hashlib
import posixpath
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Annotated

import msgspec

from thinfs.errors import FormatError, MissingError, StoreError, UsageError
from thinfs.oci.digest import digest_of, hex_of, is_digest
from thinfs.oci.images import read_images
from thinfs.oci.layout import (
    BLOBS,
    IMAGE_NAME,
    INDEX_FILE,
    LAYOUT_FILE,
    REF_NAME,
    check_version,
    file_chunks,
    pick,
)
from thinfs.oci.manifest import descriptor_json, parse_config
from thinfs.oci.model import (
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    Compression,
    Descriptor,
    Image,
    MediaType,
    Platform,
)
from thinfs.oci.naming import full_name
from thinfs.oci.recipe import MAX_LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from thinfs.oci.naming import LayoutName

MAX_MEMBERS = 100_000
"""Most members of an archive."""

MAX_EXTENSION_BYTES = 1 << 20
"""Longest pax or GNU long-name header: each is read into memory."""

_EXTENSIONS = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)

MAX_LINKS = 8
"""Most links between a name in ``manifest.json`` and its bytes."""

_MAGIC = {
    b"\x1f\x8b": Compression.GZIP,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
}
_LAYER_TYPES = {
    Compression.NONE: MediaType.OCI_LAYER,
    Compression.GZIP: MediaType.OCI_LAYER_GZIP,
    Compression.ZSTD: MediaType.OCI_LAYER_ZSTD,
}


@dataclass(frozen=True, slots=True)
class _Member:
    """Where a file's bytes are in the archive, or the other member that it is a link to."""

    offset: int
    size: int
    link: str | None


class _BoundedTarInfo(tarfile.TarInfo):
    """A header whose extensions, which are read into memory, are small."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENSIONS and not 0 <= self.size <= MAX_EXTENSION_BYTES:
            raise FormatError(f"a tar extension header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return] # typeshed hides it


class TarFiles:
    """The files in an uncompressed tar file, by name. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Read the archive's table of contents.

        Raises:
            MissingError: there is no such file.
            FormatError: it is no tar file, or has too many members.
            UsageError: it is compressed.
        """
        self._path = path
        with self._open() as file:
            _refuse_compressed(path, file.read(4))
            file.seek(0)
            try:
                with tarfile.open(fileobj=file, mode="r:", tarinfo=_BoundedTarInfo) as archive:
                    self._members = dict(self._scan(archive))
            except (tarfile.TarError, ValueError, EOFError) as error:
                raise FormatError(f"{path} is not a proper tar file: {error}") from error
            except OSError as error:
                if error.errno == errno.EINVAL:  # a seek to where no file can have a byte
                    raise FormatError(f"{path} is not a proper tar file: a wrong size") from error
                raise StoreError(f"{path}: {error.strerror}") from error

    def __contains__(self, name: str) -> bool:
        return posixpath.normpath(name) in self._members

    def size(self, name: str) -> int:
        """Bytes of a file; see :meth:`read` for errors."""
        return self._find(name).size

    def read(self, name: str, limit: int) -> bytes:
        """A whole file.

        Raises:
            MissingError: the archive does not have it.
            FormatError: it is larger than ``limit``.
        """
        member = self._find(name)
        if member.size > limit:
            raise FormatError(f"{self._path}: {name} is {member.size} bytes, more than {limit}")
        return self.start(name, member.size)

    def start(self, name: str, size: int) -> bytes:
        """The first bytes of a file, fewer when it is shorter."""
        with self.chunks(name) as chunks:
            found = b""
            for chunk in chunks:
                found += chunk
                if len(found) >= size:
                    break
        return found[:size]

    @contextmanager
    def chunks(self, name: str) -> Iterator[Iterator[bytes]]:
        """A file's bytes in chunks of 512 KiB."""
        member = self._find(name)
        with self._open() as file:
            file.seek(member.offset)
            yield file_chunks(file, member.size)

    def _open(self) -> IO[bytes]:
        try:
            return self._path.open("rb")
        except FileNotFoundError as error:
            raise MissingError(f"{self._path} does not exist") from error
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error

    def _scan(self, archive: tarfile.TarFile) -> Iterator[tuple[str, _Member]]:
        for count, info in enumerate(archive):
            if count >= MAX_MEMBERS:
                raise FormatError(f"{self._path} has more than {MAX_MEMBERS} members")
            name = posixpath.normpath(info.name)
            if info.issym():
                target = posixpath.join(posixpath.dirname(name), info.linkname)
                yield name, _Member(0, 0, posixpath.normpath(target))
            elif info.islnk():
                yield name, _Member(0, 0, posixpath.normpath(info.linkname))
            elif info.isreg() and not info.issparse():
                yield name, _Member(info.offset_data, info.size, None)

    def _find(self, name: str) -> _Member:
        at = posixpath.normpath(name)
        for _ in range(MAX_LINKS):
            member = self._members.get(at)
            if member is None:
                raise MissingError(f"{self._path} does not hold {name}")
            if member.link is None:
                return member
            at = member.link
        raise FormatError(f"{self._path}: {name} is a link to a link without end")


class OciArchive:
    """Images of an OCI image layout in a tar file."""

    def __init__(self, name: LayoutName) -> None:
        self._name = name
        self._files = TarFiles(name.path)

    def images(self, platforms: Sequence[Platform] | None) -> list[Image]:
        """See :class:`~thinfs.oci.source.ImageSource`."""
        what = str(self._name.path)
        check_version(self._files.read(LAYOUT_FILE, 1 << 10), what)
        root = pick(self._files.read(INDEX_FILE, MAX_MANIFEST_BYTES), self._name.tag, what)
        stored = root.annotations.get(IMAGE_NAME) or root.annotations.get(REF_NAME)
        return read_images(self._name.image_name(stored), root, self._read, platforms)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """See :class:`~thinfs.oci.source.ImageSource`."""
        with self._files.chunks(_blob_path(descriptor.digest)) as chunks:
            yield chunks

    def close(self) -> None:
        """Nothing is kept open."""

    def _read(self, descriptor: Descriptor) -> bytes:
        return self._files.read(_blob_path(descriptor.digest), descriptor.size)


class _SavedImage(msgspec.Struct, frozen=True, rename="pascal"):
    """One entry of ``manifest.json``."""

    config: str
    layers: Annotated[list[str], msgspec.Meta(max_length=MAX_LAYERS)]
    repo_tags: list[str] | None = None


class DockerArchive:
    """Images in a file that ``docker save`` wrote.

    Such a file has no manifest with digests: one is made here, from the configuration and the
    layers as they lie in the file, so that the same file always gives the same digest.
    """

    def __init__(self, name: LayoutName) -> None:
        self._name = name
        self._files = TarFiles(name.path)
        self._paths: dict[str, str] = {}  # of layers, by digest

    def images(self, platforms: Sequence[Platform] | None) -> list[Image]:
        """See :class:`~thinfs.oci.source.ImageSource`."""
        saved = self._pick()
        config = self._files.read(saved.config, MAX_CONFIG_BYTES)
        _check_named(saved.config, config, self._name.path)
        blobs = {digest_of(config): config}
        root = self._manifest(saved, config, blobs)
        name = self._name.image_name(_stored_name(saved, self._name.tag))
        return read_images(name, root, lambda descriptor: blobs[descriptor.digest], platforms)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """See :class:`~thinfs.oci.source.ImageSource`; only layers that :meth:`images` gave."""
        if descriptor.digest not in self._paths:
            raise MissingError(f"{self._name.path} does not hold {descriptor.digest}")
        with self._files.chunks(self._paths[descriptor.digest]) as chunks:
            yield chunks

    def close(self) -> None:
        """Nothing is kept open."""

    def _pick(self) -> _SavedImage:
        path, wanted = self._name.path, self._name.tag
        try:
            data = self._files.read("manifest.json", MAX_MANIFEST_BYTES)
            images = msgspec.json.decode(data, type=list[_SavedImage])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FormatError(f"{path}: manifest.json is malformed: {error}") from error
        except MissingError as error:
            raise FormatError(
                f"{path} has no manifest.json: 'docker save' did not write it"
            ) from error
        tags = sorted(tag for image in images for tag in image.repo_tags or ())
        if wanted is not None:
            images = [image for image in images if _is_named(image, wanted)]
        if len(images) != 1:
            lacking = f"no image {wanted!r}" if wanted else f"{len(images)} images, name one"
            raise MissingError(
                f"{path} holds {lacking}; it has: {', '.join(tags[:20]) or 'no tags'}"
            )
        return images[0]

    def _manifest(self, saved: _SavedImage, config: bytes, blobs: dict[str, bytes]) -> Descriptor:
        diff_ids = parse_config(config, str(self._name.path)).diff_ids
        if len(diff_ids) != len(saved.layers):
            raise FormatError(
                f"{self._name.path} has {len(saved.layers)} layers, "
                f"its configuration {len(diff_ids)}"
            )
        layers = [self._layer(*pair) for pair in zip(saved.layers, diff_ids, strict=True)]
        manifest = msgspec.json.encode(
            {
                "schemaVersion": 2,
                "mediaType": MediaType.OCI_MANIFEST,
                "config": descriptor_json(
                    Descriptor(MediaType.OCI_CONFIG, digest_of(config), len(config))
                ),
                "layers": [descriptor_json(layer) for layer in layers],
            }
        )
        root = Descriptor(MediaType.OCI_MANIFEST, digest_of(manifest), len(manifest))
        blobs[root.digest] = manifest
        return root

    def _layer(self, path: str, diff_id: str) -> Descriptor:
        """A layer's descriptor; the reader of its bytes finds out whether the digest is true."""
        compression = _compression(self._files.start(path, 4))
        if compression is Compression.NONE:
            digest = diff_id
        else:
            digest = _digest_in_path(path) or self._hash(path)
        self._paths[digest] = path
        return Descriptor(_LAYER_TYPES[compression], digest, self._files.size(path))

    def _hash(self, path: str) -> str:
        with self._files.chunks(path) as chunks:
            return digest_of_chunks(chunks)


def digest_of_chunks(chunks: Iterator[bytes]) -> str:
    """The digest of all chunks together."""
    state = hashlib.sha256()
    for chunk in chunks:
        state.update(chunk)
    return f"sha256:{state.hexdigest()}"


def _blob_path(digest: str) -> str:
    return f"{BLOBS}/{hex_of(digest)}"


def _digest_in_path(path: str) -> str | None:
    digest = f"sha256:{posixpath.basename(path)}"
    return digest if path.startswith("blobs/sha256/") and is_digest(digest) else None


def _check_named(path: str, config: bytes, archive: Path) -> None:
    """A configuration's name holds its digest, in both forms that docker has written."""
    digest = f"sha256:{posixpath.basename(path).removesuffix('.json')}"
    if is_digest(digest) and digest != digest_of(config):
        raise FormatError(f"{archive}: {path} does not have the digest it is named by")


def _compression(start: bytes) -> Compression:
    found = [kind for magic, kind in _MAGIC.items() if start.startswith(magic)]
    return found[0] if found else Compression.NONE


def _refuse_compressed(path: Path, start: bytes) -> None:
    compression = _compression(start)
    if compression is not Compression.NONE:
        tool = "gunzip" if compression is Compression.GZIP else "zstd -d"
        raise UsageError(f"{path} is compressed with {compression}: unpack it with {tool} first")


def _stored_name(image: _SavedImage, wanted: str | None) -> str | None:
    """The one of an image's names that was asked for, or its first."""
    tags = image.repo_tags or []
    named = [tag for tag in tags if wanted and full_name(tag) == full_name(wanted)]
    return next(iter(named or tags), None)


def _is_named(image: _SavedImage, wanted: str) -> bool:
    tags = image.repo_tags or []
    names = {*tags, *(full_name(tag) for tag in tags), image.config, hex_of(image.config)}
    return wanted in names or full_name(wanted) in names - {None}
