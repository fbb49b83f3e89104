"""Finding the recipe of what a user names: a local thin image, a registry's, or a file."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zstandard

from thinfs.errors import FormatError, MissingError, StoreError
from thinfs.oci.digest import verify
from thinfs.oci.layout import LayoutSource
from thinfs.oci.model import Compression, Platform, layer_compression
from thinfs.oci.naming import LayoutName, parse_name
from thinfs.oci.recipe import MAX_RECIPE_BYTES, RECIPE_NAME, parse_recipe
from thinfs.oci.source import open_registry, open_source
from thinfs.store.layout import IMAGES_DIRECTORY

if TYPE_CHECKING:
    from thinfs.config import Config
    from thinfs.oci.model import Layer
    from thinfs.oci.reference import Reference
    from thinfs.oci.source import ImageSource

MAX_LAYER_BYTES: Final = MAX_RECIPE_BYTES + (64 << 10)
"""Largest tar stream that is searched for a recipe: one small file and its headers."""


def find_recipe(name: str, config: Config) -> str:
    """The text of the recipe of what a user names.

    Args:
        name: a path of a ``thin.json``; ``oci:DIR[:TAG]`` or an archive; or a reference,
            looked for in the local repository first and in its registry then.
        config: ``[repository]`` and ``[registry]``.

    Returns:
        The text, which has been parsed once.

    Raises:
        MissingError: there is no such image.
        FormatError: it is an ordinary image, or its recipe is malformed.
        ThinfsError: whatever registries and layouts raise.
    """
    is_path = name.startswith(("/", "./", "../")) or Path(name).is_file()
    data = _of_file(Path(name)) if is_path else _of_image(name, config)
    parse_recipe(data)
    return data.decode()


def recipe_in_layer(data: bytes, compression: Compression, what: str) -> bytes:
    """Take ``thin.json`` out of a thin image's one layer.

    Raises:
        FormatError: it is damaged, too large, or holds something else.
    """
    try:
        tar = _decompress(data, compression)
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            member = archive.next()
            file = archive.extractfile(member) if member else None
            if member is None or file is None or member.name.lstrip("./") != RECIPE_NAME:
                raise FormatError(f"{what} is no thin image: its layer does not hold {RECIPE_NAME}")
            return file.read(MAX_RECIPE_BYTES + 1)
    except (tarfile.TarError, zlib.error, zstandard.ZstdError, EOFError) as error:
        raise FormatError(f"{what}: its layer is damaged: {error}") from error


def _of_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_RECIPE_BYTES + 1)
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _of_image(name: str, config: Config) -> bytes:
    parsed = parse_name(name, Path.exists)
    if isinstance(parsed, LayoutName):
        return _of_source(name, open_source(name, config.registry))
    local = _local(parsed, Path(config.repository.path) / IMAGES_DIRECTORY)
    if local is not None:
        return local
    return _of_source(name, open_registry(parsed, config.registry))


def _local(reference: Reference, layout: Path) -> bytes | None:
    """The recipe of a thin image in the local repository, also under its original's name."""
    if not layout.is_dir():
        return None
    for name in dict.fromkeys((reference.canonical, reference.thin().canonical)):
        source = LayoutSource(LayoutName("oci", layout, name))
        try:
            return _of_source(name, source)
        except MissingError:
            continue
    return None


def _of_source(name: str, source: ImageSource) -> bytes:
    try:
        layers = source.images([Platform.host()])[0].layers
        if len(layers) != 1:
            raise FormatError(
                f"{name} is an ordinary image of {len(layers)} layers: thinfs convert {name}"
            )
        compression = layer_compression(layers[0].descriptor.media_type) or Compression.NONE
        return recipe_in_layer(_blob(source, layers[0], name), compression, name)
    finally:
        source.close()


def _blob(source: ImageSource, layer: Layer, name: str) -> bytes:
    descriptor = layer.descriptor
    if descriptor.size > MAX_LAYER_BYTES:
        raise FormatError(
            f"{name} is an ordinary image, its layer has {descriptor.size} bytes:"
            f" thinfs convert {name}"
        )
    data = bytearray()
    with source.open_blob(descriptor) as chunks:
        for chunk in chunks:
            data += chunk
            if len(data) > descriptor.size:
                break
    return verify(bytes(data), descriptor.digest, f"{name}: its layer")


def _decompress(data: bytes, compression: Compression) -> bytes:
    if compression is Compression.GZIP:
        decompressor = zlib.decompressobj(wbits=31)
        tar = decompressor.decompress(data, MAX_LAYER_BYTES + 1)
    elif compression is Compression.ZSTD:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            tar = reader.read(MAX_LAYER_BYTES + 1)
    else:
        tar = data
    if len(tar) > MAX_LAYER_BYTES:
        raise FormatError(f"a layer of more than {MAX_LAYER_BYTES} bytes where a recipe belongs")
    return tar
