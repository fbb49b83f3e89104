"""Other repositories, read by synchronous code."""

from __future__ import annotations

import contextlib
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from thinfs.errors import ThinfsError
from thinfs.store.address import directory_address
from thinfs.store.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from thinfs.config import SourcesConfig
    from thinfs.store.source import Source

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remote:
    """One repository. What it answers is unverified; only for threads of :func:`with_sources`."""

    source: Source

    @property
    def url(self) -> str:
        """Its address."""
        return self.source.url

    def copy(self, path: str, max_bytes: int, into: BinaryIO) -> None:
        """Write one whole file into another one; see :meth:`thinfs.store.source.Source.copy`."""
        trio.from_thread.run(self.source.copy, path, max_bytes, into)

    def get_all(self, paths: Sequence[str], max_bytes: int) -> list[bytes | None]:
        """Read several files at once; ``None`` stands for one that could not be read."""
        return trio.from_thread.run(self._get_all, paths, max_bytes)

    async def _get_all(self, paths: Sequence[str], max_bytes: int) -> list[bytes | None]:
        found: list[bytes | None] = [None] * len(paths)

        async def one(at: int, path: str) -> None:
            with contextlib.suppress(ThinfsError):
                found[at] = await self.source.get(path, max_bytes)

        async with trio.open_nursery() as nursery:
            for at, path in enumerate(paths):
                nursery.start_soon(one, at, path)
        return found


def with_sources(
    urls: Sequence[str], config: SourcesConfig, work: Callable[[Sequence[Remote]], T]
) -> T:
    """Do synchronous work that reads from repositories; gives its result.

    Args:
        urls: addresses, or directories of this machine.
        config: how they are asked. Whether they may be is the caller's decision.
        work: called in a thread with one value for each address; it may use threads of its own
            for work that does not read.

    Raises:
        UsageError: an address is malformed.
    """

    async def run() -> T:
        async with AsyncExitStack() as stack:
            remotes = []
            for url in urls:
                source = open_source(as_address(url), config)
                stack.push_async_callback(source.aclose)
                remotes.append(Remote(source))
            return await trio.to_thread.run_sync(work, remotes, abandon_on_cancel=True)

    return trio.run(run)


def as_address(text: str) -> str:
    """A repository's address from what a user writes: an address or a directory."""
    if "://" in text:
        return text
    return directory_address(os.fsencode(Path(text).absolute())).url
