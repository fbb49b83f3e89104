"""A repository in a directory of this machine, or of anything that is mounted on it."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from thinfs.errors import FormatError, MissingError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from thinfs.store.address import Address

MAX_PARALLEL_READS: Final = 8
"""Threads that one directory keeps busy: enough for a network mount, few for a laptop."""

PIECE_BYTES: Final = 1 << 20
"""What is read at once: an object is one such piece."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# NONBLOCK: opening a fifo that somebody planted must not wait for its writer.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileSource:
    """Reads below one directory and nowhere else: below it, symbolic links are not followed."""

    behind_caches = False

    def __init__(self, address: Address) -> None:
        self.url = address.url
        self._root = address.path
        self._limiter = trio.CapacityLimiter(MAX_PARALLEL_READS)

    async def get(
        self,
        path: str,
        max_bytes: int,
        *,
        fresh: bool = False,  # noqa: ARG002 - a directory has no caches in between
        proxy: str | None = None,  # noqa: ARG002 - and no proxies
    ) -> bytes:
        """Read one file in a thread; see :class:`thinfs.store.source.Source`.

        A reader that is cancelled goes on at once. The thread is left behind until the disk
        or the network mount answers, and it keeps its place among the parallel reads so long.
        """
        pieces: list[bytes] = []
        await self._in_thread(path, max_bytes, pieces.append)
        return b"".join(pieces)

    async def copy(
        self,
        path: str,
        max_bytes: int,
        into: BinaryIO,
        *,
        fresh: bool = False,  # noqa: ARG002 - as above
        proxy: str | None = None,  # noqa: ARG002 - as above
    ) -> int:
        """Copy one file in a thread; see :class:`thinfs.store.source.Source`.

        A thread that a cancelled reader has left behind ends when it finds ``into`` closed.
        """
        return await self._in_thread(path, max_bytes, into.write)

    async def aclose(self) -> None:
        """Nothing is kept open between reads."""

    async def _in_thread(self, path: str, max_bytes: int, sink: Callable[[bytes], object]) -> int:
        return await trio.to_thread.run_sync(
            self._read, path, max_bytes, sink, limiter=self._limiter, abandon_on_cancel=True
        )

    def _read(self, path: str, max_bytes: int, sink: Callable[[bytes], object]) -> int:
        taken = 0
        with self._opened(path) as handle:
            while piece := self._piece(handle, path, min(PIECE_BYTES, max_bytes - taken + 1)):
                taken += len(piece)
                if taken > max_bytes:
                    raise FormatError(f"{self.url}/{path} is longer than {max_bytes} bytes")
                sink(piece)
        return taken

    @contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        try:
            handle = self._open(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not os.path.isdir(self._root):  # noqa: PTH112 - the path is bytes
                raise TransportError(f"{self.url}: the directory is not there") from error
            raise MissingError(f"{self.url}/{path} does not exist") from error
        except OSError as error:
            raise TransportError(f"{self.url}/{path}: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise TransportError(f"{self.url}/{path} is not a regular file")
            yield handle
        finally:
            os.close(handle)

    def _piece(self, handle: int, path: str, most: int) -> bytes:
        try:
            return os.read(handle, most)
        except OSError as error:
            raise TransportError(f"{self.url}/{path}: {error.strerror}") from error

    def _open(self, path: str) -> int:
        """Walk down from the root one component at a time, so that nothing leads out of it."""
        *folders, name = _components(path)
        here = os.open(self._root, _DIRECTORY)
        try:
            for folder in folders:
                below = os.open(folder, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = below
            return os.open(name, _FILE, dir_fd=here)
        finally:
            os.close(here)


def _components(path: str) -> list[str]:
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise FormatError(f"{path!r} does not name a file of a repository")
    return parts
