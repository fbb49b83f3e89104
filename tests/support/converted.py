"""A repository as a reader sees it: catalogs and objects, believed only after their digests."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from catalog.check import check
from catalog.reader import CatalogReader
from thinfs.store.layout import MAX_OBJECT_BYTES, catalog_path, object_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.model import Content


@contextmanager
def root_of(repository: Path, digest: str) -> Iterator[CatalogReader]:
    """The catalog ``sha256:…`` of a repository, checked against all its invariants."""
    raw = bytes.fromhex(digest.removeprefix("sha256:"))
    with tempfile.TemporaryDirectory(prefix="thinfs-test-") as folder:
        file = Path(folder) / "catalog"
        packed = (repository / catalog_path(raw)).read_bytes()
        file.write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(packed))
        assert hashlib.sha256(file.read_bytes()).digest() == raw
        assert check(file) == []
        with CatalogReader.open(file) as reader:
            yield reader


def body_of(repository: Path, content: Content) -> bytes:
    """A content's bytes, put together from objects; asserts that every digest is right."""
    body = bytearray(content.size)
    for extent in content.extents:
        frame = (repository / object_path(extent.object)).read_bytes()
        whole = zstandard.decompress(frame, max_output_size=MAX_OBJECT_BYTES)
        assert hashlib.sha256(whole).digest() == extent.object
        part = whole[extent.object_offset :][: extent.length]
        body[extent.offset : extent.offset + extent.length] = part
    assert hashlib.sha256(body).digest() == content.digest
    return bytes(body)


def files_of(repository: Path, digest: str) -> dict[bytes, bytes]:
    """Every regular file of a root by its path."""
    with root_of(repository, digest) as root:
        return {
            path: body_of(repository, root.content(node.content_id)) if node.content_id else b""
            for path, node in root.walk()
            if node.mode >> 12 == 0o10
        }


def recipe_of(layout: Path, name: str) -> dict[str, object]:
    """The recipe of the thin image that an OCI layout holds under a full name."""
    index = json.loads((layout / "index.json").read_bytes())
    [entry] = [
        each
        for each in index["manifests"]
        if each["annotations"]["org.opencontainers.image.ref.name"] == name
    ]
    manifest = json.loads(_blob(layout, entry["digest"]))
    [layer] = manifest["layers"]
    with tarfile.open(fileobj=io.BytesIO(_blob(layout, layer["digest"]))) as tar:
        [member] = tar.getmembers()
        assert member.name == "thin.json"
        file = tar.extractfile(member)
        assert file is not None
        recipe: dict[str, object] = json.load(file)
        return recipe


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()
