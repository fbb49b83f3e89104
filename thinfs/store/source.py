"""Where the files of a repository come from: the seam between fetching and the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from thinfs.store.address import parse_address
from thinfs.store.file import FileSource
from thinfs.store.remote import HttpSource

if TYPE_CHECKING:
    from typing import BinaryIO

    from thinfs.config import SourcesConfig


class Source(Protocol):
    """One repository, for reading. What it answers is unverified."""

    @property
    def url(self) -> str:
        """The repository's address in normal form: names the source in logs and errors."""
        ...

    @property
    def behind_caches(self) -> bool:
        """Whether somebody in between may answer with an old copy, so that ``fresh`` matters."""
        ...

    async def get(
        self, path: str, max_bytes: int, *, fresh: bool = False, proxy: str | None = None
    ) -> bytes:
        """Read one whole file into memory.

        Args:
            path: as ``thinfs.store.layout`` names it, below the repository.
            max_bytes: most bytes that are read.
            fresh: ask caches in between to look at the origin again.
            proxy: HTTP proxy to go through; empty: none; ``None``: as the environment says.
                Means nothing where ``behind_caches`` is false.

        Raises:
            MissingError: the repository answers and has no such file.
            FormatError: the file is longer than ``max_bytes``.
            TransportError: anything else.
        """
        ...

    async def copy(
        self,
        path: str,
        max_bytes: int,
        into: BinaryIO,
        *,
        fresh: bool = False,
        proxy: str | None = None,
    ) -> int:
        """Write one whole file into another one, with bounded memory; otherwise as :meth:`get`.

        Returns:
            The number of bytes. After an exception some may have been written.

        Raises:
            OSError: ``into`` cannot be written.
        """
        ...

    async def aclose(self) -> None:
        """Give up connections; nothing else must be called after."""
        ...


def open_source(url: str, config: SourcesConfig) -> Source:
    """A source for one repository; nothing is contacted yet. The caller closes it.

    Whether the configuration allows the repository is decided before, by
    :func:`thinfs.store.allow.allowed_address`.

    Raises:
        UsageError: ``url`` is no address of a repository, or a certificate cannot be read.
    """
    address = parse_address(url)
    if address.scheme == "file":
        return FileSource(address)
    return HttpSource(address, config)
