"""What the verbs that look after the node's cache have in common."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec.structs import replace

from thinfs.cache.directory import NodeCache
from thinfs.errors import MissingError
from thinfs.oci.naming import parse_name
from thinfs.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thinfs.config import Config

_RATE: Final = re.compile(r"(\d{1,12})([KMG]?)")
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

cache_option = click.option(
    "--cache", "folder", default="", metavar="DIR", help="The cache.  [default: [cache] path]"
)


class Rate(click.ParamType[int]):
    """Bytes per second; K, M and G stand for powers of 1024."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The bytes."""
        if isinstance(value, int):
            return value
        found = _RATE.fullmatch(str(value).upper())
        if found is None:
            self.fail(f"{value!r} is no rate such as 500K or 20M", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


def with_cache(config: Config, folder: str) -> Config:
    """The configuration with the cache that ``--cache`` names."""
    if not folder:
        return config
    return replace(config, cache=replace(config.cache, path=str(Path(folder).absolute())))


@contextmanager
def opened_cache(config: Config, *, make: bool = False) -> Iterator[NodeCache]:
    """The cache, open within the block, beside whoever else uses it.

    Raises:
        MissingError: there is none, and none is to be made.
        StoreError: it cannot be written.
    """
    path = Path(config.cache.path)
    cache = NodeCache(path, max_bytes=config.cache.max_bytes, low_water=config.cache.low_water)
    if make:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not cache.places.state.exists():
        raise MissingError(f"{path} is no cache of thinfs: thinfs warm makes one")
    cache.open()
    try:
        yield cache
    finally:
        cache.close()


def full_name(text: str) -> str:
    """What an image is remembered by, however its user writes it."""
    if text.startswith(("/", "./", "../")) or Path(text).is_file():
        return str(Path(text).absolute())
    parsed = parse_name(text, Path.exists)
    return parsed.canonical if isinstance(parsed, Reference) else text
