"""A small repository directory for tests of what serves it: real layout, arbitrary bodies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinfs.store.layout import (
    boot_path,
    catalog_path,
    layer_path,
    object_path,
    profile_path,
    root_path,
)

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class StaticRepository:
    """Where it is and what it holds: path below it → bytes."""

    path: Path
    objects: dict[str, bytes]
    records: dict[str, bytes]
    changing: dict[str, bytes]
    private: dict[str, bytes]


def make_static_repository(path: Path) -> StaticRepository:
    """Write a repository with a file of every kind, public and private."""
    bodies = [bytes(range(256)) * 40, b"x", bytes(700_000) + b"the end"]
    digests = [hashlib.sha256(body).digest() for body in bodies]
    blob = hashlib.sha256(b"manifest").hexdigest()
    made = StaticRepository(
        path=path,
        objects={
            object_path(digests[0]): bodies[0],
            object_path(digests[1]): bodies[1],
            catalog_path(digests[2]): bodies[2],
            boot_path(digests[1]): bodies[1],
        },
        records={layer_path(digests[0]): b'{"a": 1}\n'},
        changing={
            root_path(digests[1]): b'{"b": 2}\n',
            profile_path(digests[1]): b'{"c": 3}\n',
            "thinfs.json": b'{"format": 1}\n',
            "oci/oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "oci/index.json": b'{"manifests": []}',
            f"oci/blobs/sha256/{blob}": b"manifest",
        },
        private={
            "index.sqlite": b"private",
            "index.sqlite-wal": b"private",
            "lock": b"",
            "tmp/half-an-object": b"private",
            "objects/notes.txt": b"private",
            "oci/.index.json.x7": b"private",
        },
    )
    for files in (made.objects, made.records, made.changing, made.private):
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return made
