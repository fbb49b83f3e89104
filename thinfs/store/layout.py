"""Where things are in a repository: names only, no input or output.

A repository is a directory of static files that any web server can serve::

    thinfs.json                     what this directory is, and the version of its format
    objects/<aa>/<sha256>           one zstd frame; named by its uncompressed bytes
    catalogs/<aa>/<sha256>          one zstd frame of a SQLite file; named by the SQLite file
    metadata/<aa>/<sha256>          one zstd frame of an EROFS image; named by the EROFS image
    boots/<aa>/<sha256>             one zstd frame of a boot record (JSON); named by the JSON
    layers/<sha256>                 a layer record (JSON), named by the compressed layer's digest
    roots/<sha256>                  a root record (JSON), named by the ChainID of its layers
    profiles/<sha256>               a boot profile (JSON), named by the ChainID: for converters
    oci/                            an OCI image layout with the thin images made here

    index.sqlite*, lock, gate, removed.json, tmp/
                                    for those who write: never needed by a reader

``<aa>`` is the first two hex digits of the digest. Files below ``objects/``, ``catalogs/``,
``metadata/``, ``boots/`` and ``layers/`` never change once they have their names. A root record
and a profile are replaced, by rename, when a start of the image has been recorded.
"""

from __future__ import annotations

import re

FORMAT_VERSION = 1
"""Of the layout and of every file in it."""

MAX_OBJECT_BYTES = 1 << 20
"""Most uncompressed bytes one object holds."""

SMALL_CONTENT_BYTES = 128 << 10
"""Contents smaller than this are bundled with others; larger ones are cut into chunks."""

MAX_STORED_OBJECT_BYTES = MAX_OBJECT_BYTES + (MAX_OBJECT_BYTES >> 7)
"""Largest zstd frame of an object: what zstd may need for bytes it cannot compress, and more.

The ``stored_size`` that a catalog gives is what the converter saw. Another repository may hold
the same object at another compression level, so it is a hint for plans and progress, no limit.
"""

MAX_CATALOG_BYTES = 4 << 30
"""Largest uncompressed catalog a reader accepts."""

MAX_METADATA_BYTES = 4 << 30
"""Largest uncompressed metadata image a reader accepts."""

REPOSITORY_FILE = "thinfs.json"
INDEX_FILE = "index.sqlite"
LOCK_FILE = "lock"
GATE_FILE = "gate"
REMOVED_FILE = "removed.json"
TEMPORARY_DIRECTORY = "tmp"
IMAGES_DIRECTORY = "oci"

_HEX_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def is_hex_digest(text: str) -> bool:
    """Whether ``text`` is a SHA-256 as 64 lower-case hex digits."""
    return _HEX_DIGEST.match(text) is not None


def raw_digest(digest: str) -> bytes:
    """The 32 bytes of ``sha256:`` and 64 hex digits."""
    return bytes.fromhex(digest.removeprefix("sha256:"))


def object_path(digest: bytes) -> str:
    """Path of an object below the repository, with ``/``."""
    return _fanned_out("objects", digest)


def catalog_path(digest: bytes) -> str:
    """Path of a published catalog below the repository."""
    return _fanned_out("catalogs", digest)


def metadata_path(digest: bytes) -> str:
    """Path of a published metadata image below the repository."""
    return _fanned_out("metadata", digest)


def boot_path(digest: bytes) -> str:
    """Path of a published boot record below the repository."""
    return _fanned_out("boots", digest)


def layer_path(digest: bytes) -> str:
    """Path of a layer record below the repository; ``digest`` is the compressed layer's."""
    return f"layers/{digest.hex()}"


def root_path(chain_id: bytes) -> str:
    """Path of a root record below the repository."""
    return f"roots/{chain_id.hex()}"


def profile_path(chain_id: bytes) -> str:
    """Path of a boot profile below the repository."""
    return f"profiles/{chain_id.hex()}"


def _fanned_out(folder: str, digest: bytes) -> str:
    name = digest.hex()
    return f"{folder}/{name[:2]}/{name}"
