"""Bytes of contents that the repository holds already, read from its objects."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from thinfs.convert.runs import Run, overlap
from thinfs.errors import FormatError, IntegrityError, MissingError, StoreError
from thinfs.fetch.verify import decompress
from thinfs.store.layout import object_path

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.model import Content, ObjectRef
    from catalog.reader import CatalogReader

KEPT_OBJECTS: Final = 64
"""Objects in memory: what a start touches one after the other often lies together."""

_ADVICE: Final = "; thinfs check --repair mends a repository"


class Bodies:
    """Reads contents of one root; for one thread.

    Args:
        repository: its directory.
        root: says where contents are.
    """

    def __init__(self, repository: Path, root: CatalogReader) -> None:
        self._repository = repository
        self._root = root
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()

    def ref(self, digest: bytes) -> ObjectRef:
        """An object that the root's catalog names.

        Raises:
            FormatError: it names none.
        """
        found = self._root.object(digest)
        if found is None:
            raise FormatError(f"the catalog names no object {digest.hex()}")
        return found

    def read(self, content: Content, run: Run) -> bytes:
        """Bytes of a content; holes are zeros.

        Raises:
            MissingError: the repository lacks an object.
            IntegrityError: it holds other bytes than the object's name says.
            FormatError: the catalog contradicts itself.
            StoreError: the disk refused.
        """
        body = bytearray(run.length)
        for extent in content.extents:
            part = overlap(run, Run(extent.offset, extent.length))
            if part:
                start = extent.object_offset + part.offset - extent.offset
                data = self._object(extent.object)[start : start + part.length]
                body[part.offset - run.offset : part.end - run.offset] = data
        return bytes(body)

    def _object(self, digest: bytes) -> bytes:
        data = self._kept.get(digest)
        if data is None:
            data = self._kept[digest] = self._read(self.ref(digest))
            if len(self._kept) > KEPT_OBJECTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(digest)
        return data

    def _read(self, ref: ObjectRef) -> bytes:
        file = self._repository / object_path(ref.digest)
        try:
            data = decompress(file.read_bytes(), ref.size)
        except FileNotFoundError as error:
            raise MissingError(f"{file} is missing{_ADVICE}") from error
        except FormatError as error:
            raise IntegrityError(f"{file} is damaged: {error}{_ADVICE}") from error
        except OSError as error:
            raise StoreError(f"{file}: {error.strerror}") from error
        if hashlib.sha256(data).digest() != ref.digest:
            raise IntegrityError(f"{file} is damaged{_ADVICE}")
        return data
