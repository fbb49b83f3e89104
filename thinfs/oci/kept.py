"""The images of a repository: the names in its ``oci/`` layout, and those that were removed.

A name that is taken away, or that comes to stand for another image, leaves a note in
``removed.json``: nodes may still run that image, and so what it needs stays for the grace time
of whoever collects what no image needs. The layout's lock covers the notes too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

from thinfs import atomic
from thinfs.errors import FormatError, MissingError, StoreError
from thinfs.oci.layout import INDEX_FILE, REF_NAME, LayoutWriter, entries_of
from thinfs.oci.model import Descriptor
from thinfs.oci.naming import full_name
from thinfs.store.layout import IMAGES_DIRECTORY, REMOVED_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from thinfs.oci.delivery import Deliverable

_Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class NamedImage:
    """One name and what it stands for.

    Attributes:
        name: canonical name; empty for an entry of the layout that has none.
        root: the thin image's manifest, or an index of several.
    """

    name: str
    root: Descriptor


class RemovedImage(msgspec.Struct, frozen=True):
    """An image that had a name once.

    Attributes:
        name: the name it had.
        media_type: of its manifest or index.
        digest: of its manifest or index.
        size: bytes of its manifest or index.
        removed_at: when, in seconds since 1970.
    """

    name: str
    media_type: str
    digest: _Digest
    size: _Count
    removed_at: _Count

    @property
    def root(self) -> Descriptor:
        """What the name stood for."""
        return Descriptor(self.media_type, self.digest, self.size)


def named_images(repository: Path) -> tuple[NamedImage, ...]:
    """The images that have names, in the order in which they got them.

    Raises:
        FormatError: the layout's ``index.json`` is damaged.
        StoreError: it cannot be read.
    """
    index = repository / IMAGES_DIRECTORY / INDEX_FILE
    try:
        entries = entries_of(index)
    except OSError as error:
        raise StoreError(f"{index}: {error.strerror}") from error
    return tuple(NamedImage(entry.annotations.get(REF_NAME, ""), entry) for entry in entries)


def removed_images(repository: Path) -> tuple[RemovedImage, ...]:
    """The images whose names were taken away, oldest first.

    Raises:
        FormatError: the file is damaged.
        StoreError: it cannot be read.
    """
    file = repository / REMOVED_FILE
    try:
        found = msgspec.json.decode(file.read_bytes(), type=tuple[RemovedImage, ...])
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(
            f"{file} is damaged: {error}; delete it, and images that were removed lately"
            " lose their grace time"
        ) from error
    return tuple(sorted(found, key=lambda image: image.removed_at))


def record_image(repository: Path, thin: Deliverable, name: str, now_s: int) -> None:
    """Put a thin image into the repository's layout; an older one of that name is noted.

    Args:
        repository: its directory.
        thin: what to put there.
        name: canonical name.
        now_s: seconds since 1970.

    Raises:
        StoreError: the disk refuses.
        FormatError: the layout, or the list of removed images, is damaged.
    """
    with LayoutWriter(repository / IMAGES_DIRECTORY) as layout:
        for descriptor, data in thin.blobs:
            layout.put(descriptor, data)
        old = layout.find(name)
        if old is not None and old.digest != thin.root.digest:
            _note(repository, name, old, now_s)
        layout.tag(thin.root, name, full_name(name))


def remove_images(repository: Path, names: Sequence[str], now_s: int) -> None:
    """Take names away, all or none: what they stand for is noted as removed.

    Raises:
        MissingError: one of the names is not there; nothing was removed.
        StoreError: the disk refuses.
        FormatError: the layout, or the list of removed images, is damaged.
    """
    known = [image.name for image in named_images(repository) if image.name]
    for name in names:
        if name not in known:
            listed = ", ".join(sorted(known)[:20]) or "no image at all"
            raise MissingError(f"{repository} has no image {name}; it has: {listed}")
    with LayoutWriter(repository / IMAGES_DIRECTORY) as layout:
        for name in names:
            old = layout.find(name)
            if old is not None:
                _note(repository, name, old, now_s)  # first: a crash after it costs nothing
                layout.untag(name)


def forget_removed(repository: Path, gone: Callable[[RemovedImage], bool]) -> None:
    """Drop the notes of removed images for which ``gone`` is true.

    Raises:
        StoreError: the disk refuses.
        FormatError: the file is damaged.
    """
    with LayoutWriter(repository / IMAGES_DIRECTORY):
        images = removed_images(repository)
        kept = [image for image in images if not gone(image)]
        if len(kept) < len(images):
            _write(repository, kept)


def _note(repository: Path, name: str, old: Descriptor, now_s: int) -> None:
    note = RemovedImage(name, old.media_type, old.digest, old.size, now_s)
    others = [image for image in removed_images(repository) if image.digest != note.digest]
    _write(repository, [*others, note])


def _write(repository: Path, images: Sequence[RemovedImage]) -> None:
    file = repository / REMOVED_FILE
    try:
        atomic.write(file, msgspec.json.format(msgspec.json.encode(images), indent=1) + b"\n")
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
