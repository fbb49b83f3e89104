"""The recipe, ``thin.json``: the one file of a thin image's one layer.

Version 1.0 as CVMFS thin images have it, with one key more, ``thinfs``, that their readers
ignore and that names the merged root of the image::

    { "version": "1.0",
      "origin": "docker.io/library/redis:4@sha256:…",
      "layers": [ { "digest": "<hex of the compressed layer>", "url": "<where its record is>" } ],
      "thinfs": {
        "repositories": ["https://…"],
        "root": { "chain_id": "sha256:…",
                  "catalog": { "digest": "sha256:…", "size": 123, "stored_size": 45 },
                  "metadata": { "digest": "sha256:…", "size": 123, "stored_size": 45 },
                  "boot": { "digest": "sha256:…", "size": 123, "stored_size": 45 } } } }

Layers come base first. The ``url`` of a layer is ``<repository>/layers/<digest>``.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from thinfs.errors import FormatError

RECIPE_NAME = "thin.json"
RECIPE_VERSION = "1.0"
MAX_RECIPE_BYTES = 1 << 20
MAX_LAYERS = 1024

Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
HexDigest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Bytes = Annotated[int, msgspec.Meta(gt=0, le=(1 << 63) - 1)]
Url = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class RecipeLayer(msgspec.Struct, frozen=True):
    """One layer of the original image.

    Attributes:
        digest: SHA-256 of the compressed layer, bare hex.
        url: where its tree is described: ``http(s):``, ``file:`` or ``cvmfs:``.
    """

    digest: HexDigest
    url: Url


class BlobRef(msgspec.Struct, frozen=True):
    """A published file by content.

    Attributes:
        digest: of the uncompressed bytes.
        size: of the uncompressed bytes.
        stored_size: bytes as published (compressed).
    """

    digest: Digest
    size: Bytes
    stored_size: Bytes


class RecipeRoot(msgspec.Struct, frozen=True, omit_defaults=True):
    """The merged root of all layers.

    Attributes:
        chain_id: the ChainID of the original image's layers (OCI image spec).
        catalog: the root tree's catalog.
        metadata: the root tree as an EROFS image; without it, a node makes its own.
        boot: the boot record (:mod:`thinfs.store.boot`); only together with ``metadata``.
    """

    chain_id: Digest
    catalog: BlobRef
    metadata: BlobRef | None = None
    boot: BlobRef | None = None


class RecipeExtension(msgspec.Struct, frozen=True):
    """What thinfs adds to a recipe.

    Attributes:
        repositories: where objects and catalogs are, in order of preference; requests, not
            orders: the node contacts only what its configuration allows.
        root: the merged root.
    """

    repositories: Annotated[list[Url], msgspec.Meta(min_length=1, max_length=16)]
    root: RecipeRoot


class Recipe(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole recipe.

    Attributes:
        version: ``1.0``.
        origin: the image it was made from: ``registry/repository:tag@digest``.
        layers: base first.
        thinfs: the merged root; absent in recipes made by others.
    """

    version: str
    origin: Annotated[str, msgspec.Meta(max_length=4096)]
    layers: Annotated[list[RecipeLayer], msgspec.Meta(max_length=MAX_LAYERS)]
    thinfs: RecipeExtension | None = None


def parse_recipe(data: bytes) -> Recipe:
    """Read ``thin.json``.

    Raises:
        FormatError: it is too large, no JSON, of another version, or a value is malformed.
    """
    if len(data) > MAX_RECIPE_BYTES:
        raise FormatError(f"{RECIPE_NAME}: {len(data)} bytes, more than {MAX_RECIPE_BYTES}")
    try:
        recipe = msgspec.json.decode(data, type=Recipe)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{RECIPE_NAME} is not a recipe: {error}") from error
    if recipe.version != RECIPE_VERSION:
        raise FormatError(
            f"{RECIPE_NAME} has version {recipe.version!r}; this thinfs reads {RECIPE_VERSION!r}"
        )
    return recipe


def render_recipe(recipe: Recipe) -> bytes:
    """Write ``thin.json``: indented, in a fixed order, the same bytes for the same recipe."""
    return msgspec.json.format(msgspec.json.encode(recipe), indent=2) + b"\n"
