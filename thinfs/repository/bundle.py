"""Bundles: images with all that a node needs to run them, as one stream of files.

A bundle is a tar archive that is at the same time an OCI image archive. In this order::

    thinfs-bundle.json              what it is, and which images it holds
    oci-layout, index.json, blobs/  the thin images; tools for OCI archives read just these
    boots/, metadata/, catalogs/    as in a repository (thinfs.store.layout)
    profiles/                       advice for converters, where there is any
    objects/                        what starts need first, then the rest

Records of layers and roots are not in it: nobody could verify them, no node reads them, and a
converter would believe them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from thinfs.errors import FormatError
from thinfs.oci.naming import full_name

if TYPE_CHECKING:
    from thinfs.store.boot import BootRecord

BUNDLE_FILE: Final = "thinfs-bundle.json"
BUNDLE_VERSION: Final = 1
MAX_BUNDLE_BYTES: Final = 4 << 20
MAX_IMAGES: Final = 10_000

Part = Literal["all", "profile"]
Count = Annotated[int, msgspec.Meta(ge=0)]
Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]

PUBLISHED: Final = re.compile(
    r"(?P<folder>objects|catalogs|metadata|boots)/(?P<aa>[0-9a-f]{2})/(?P<name>(?P=aa)[0-9a-f]{62})"
)
"""Paths of files that are named by what they hold."""

PROFILE: Final = re.compile(r"profiles/(?P<name>[0-9a-f]{64})")
BLOB: Final = re.compile(r"blobs/sha256/(?P<name>[0-9a-f]{64})")


class BundledImage(msgspec.Struct, frozen=True):
    """One image.

    Attributes:
        name: canonical name.
        digest: of the thin image's manifest or index.
        part: ``all`` of its objects, or those that its ``profile`` needs for a start.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    digest: Digest
    part: Part


class Bundle(msgspec.Struct, frozen=True):
    """The first file of a bundle.

    Attributes:
        version: ``1``.
        images: none twice.
        files: how many files come from the repository.
        bytes: about how many bytes they have.
    """

    version: int
    images: Annotated[tuple[BundledImage, ...], msgspec.Meta(min_length=1, max_length=MAX_IMAGES)]
    files: Count
    bytes: Count


def parse_bundle(data: bytes) -> Bundle:
    """Read the first file of a bundle.

    Raises:
        FormatError: it is none, or of another version.
    """
    try:
        bundle = msgspec.json.decode(data, type=Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{BUNDLE_FILE} is malformed: {error}") from error
    if bundle.version != BUNDLE_VERSION:
        raise FormatError(
            f"a bundle of version {bundle.version}; this thinfs reads {BUNDLE_VERSION}"
        )
    for image in bundle.images:
        if full_name(image.name) != image.name:
            raise FormatError(f"{image.name!r} is not the full name of an image")
    return bundle


def render_bundle(bundle: Bundle) -> bytes:
    """Write it: the same bytes for the same values."""
    return msgspec.json.format(msgspec.json.encode(bundle), indent=1) + b"\n"


def start_objects(boot: BootRecord) -> tuple[int, ...]:
    """What a start needs, in the order in which it does, then the rest of the metadata.

    Returns:
        Indexes into the record's objects, none twice.
    """
    metadata = (extent.object for extent in boot.metadata.extents)
    return tuple(dict.fromkeys((*boot.order, *metadata)))
