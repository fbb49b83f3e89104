"""A boot record as a node uses it: its bytes believed only after their digests."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import zstandard

from catalog.model import Content, Extent
from tests.support.converted import body_of
from thinfs.store.boot import BootRecord, parse_boot
from thinfs.store.layout import boot_path, object_path, raw_digest

if TYPE_CHECKING:
    from pathlib import Path

    from thinfs.store.boot import BootContent


def root_record(repository: Path) -> dict[str, Any]:
    """The one root record of a repository."""
    [file] = (repository / "roots").iterdir()
    record: dict[str, Any] = json.loads(file.read_bytes())
    return record


def boot_of(repository: Path, named: dict[str, Any] | None = None) -> BootRecord:
    """The boot record that a recipe or a root record names; else that of the only root."""
    named = named or root_record(repository)["boot"]
    assert named is not None
    frame = (repository / boot_path(raw_digest(named["digest"]))).read_bytes()
    data = zstandard.decompress(frame)
    assert (len(data), len(frame)) == (named["size"], named["stored_size"])
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == named["digest"]
    record = parse_boot(data, "boot record")
    for each in record.objects:
        stored = (repository / object_path(bytes.fromhex(each.digest))).stat().st_size
        assert stored == each.stored_size
    return record


def booted(repository: Path, record: BootRecord, content: BootContent) -> bytes:
    """A content's bytes, read through the boot record's extents; asserts that they are right."""
    return body_of(repository, as_content(record, content))


def as_content(record: BootRecord, content: BootContent) -> Content:
    """The same in the catalog's words."""
    return Content(
        bytes.fromhex(content.digest),
        content.size,
        tuple(
            Extent(
                e.offset,
                e.length,
                bytes.fromhex(record.objects[e.object].digest),
                e.object_offset,
            )
            for e in content.extents
        ),
    )
