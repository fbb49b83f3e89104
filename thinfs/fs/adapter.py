"""The file system as pyfuse3 wants it: every method translates, none decides.

Trees never change, so the kernel may keep names, missing names, attributes and pages for as
long as it likes: a second touch does not reach this process. Only the names of trees come and
go; they are asked for each time.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import pyfuse3

from catalog.model import MAX_NAME_BYTES
from thinfs.fs.errnos import errno_of, is_expected
from thinfs.fs.filesystem import OVERLAY_XATTRS
from thinfs.fs.underway import Underway

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from catalog.model import Node
    from thinfs.fs.filesystem import FileSystem, Name

    P = ParamSpec("P")
    T = TypeVar("T")

log = logging.getLogger(__name__)

LASTING_S: Final = 10 * 365 * 86400.0
"""How long the kernel may keep what never changes."""

FIRST_PAGE: Final = 32
NEXT_PAGE: Final = 256
"""Names asked of a tree at once: first what the kernel's smallest buffer holds, then more."""

_BLOCK: Final = 4096
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_TRUNC


def _answers(
    method: Callable[Concatenate[Adapter, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Adapter, P], Coroutine[Any, Any, T]]:
    """Count a request and turn whatever it raises into an errno.

    pyfuse3 ends its main loop, and every container with it, when anything else gets out.
    """
    operation = method.__name__

    @functools.wraps(method)
    async def answer(self: Adapter, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.requests[operation] += 1
        number = self.underway.begin()
        try:
            return await method(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:
            self.errors[operation] += 1
            if is_expected(error):
                log.warning("%s: %s", operation, error)
            else:
                log.exception("%s failed", operation)
            raise pyfuse3.FUSEError(errno_of(error)) from None
        finally:
            self.underway.end(number)

    return answer


class Adapter(pyfuse3.Operations):
    """Serves a :class:`FileSystem` over FUSE.

    Attributes:
        requests: requests answered, by operation.
        errors: those among them that failed, by operation.
        underway: those that are being answered.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = True

    def __init__(self, filesystem: FileSystem) -> None:
        super().__init__()
        self._fs = filesystem
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.underway = Underway()

    @_answers
    async def lookup(self, parent: int, name: bytes, _ctx: Any) -> pyfuse3.EntryAttributes:
        """A name's attributes, or the lasting answer that there is no such name."""
        found = await self._fs.find(parent, name)
        if found is None:
            return self._absent(parent)
        return self._entry(parent, *found)

    @_answers
    async def getattr(self, inode: int, _ctx: Any) -> pyfuse3.EntryAttributes:
        """An inode's attributes."""
        await self._fs.recall(inode)
        return self._entry(inode, inode, self._fs.node(inode))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """The kernel does not know these inodes any more, or less often. Nobody waits for it."""
        for inode, lookups in inode_list:
            self._fs.forget(inode, lookups)

    @_answers
    async def readlink(self, inode: int, _ctx: Any) -> bytes:
        """A symbolic link's target."""
        return self._fs.readlink(inode)

    @_answers
    async def open(self, inode: int, flags: int, _ctx: Any) -> pyfuse3.FileInfo:
        """Open a file for reading; its handle is its inode number."""
        if flags & _WRITING:
            raise pyfuse3.FUSEError(errno.EROFS)
        await self._fs.recall(inode)
        self._fs.open(inode)
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    @_answers
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Bytes of a file."""
        return await self._fs.read(fh, off, size)

    @_answers
    async def release(self, fh: int) -> None:
        """One handle less."""
        self._fs.release(fh)

    @_answers
    async def opendir(self, inode: int, _ctx: Any) -> int:
        """A directory's handle is its inode number as well."""
        return inode

    @_answers
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Fill the kernel's buffer with names from a cookie on, attributes included."""
        after, limit = start_id, FIRST_PAGE
        while names := self._fs.readdir(fh, after, limit):
            for name in names:
                if not self._reply(token, fh, name):
                    return
            if len(names) < limit:
                return
            after, limit = names[-1].cookie, NEXT_PAGE

    @_answers
    async def releasedir(self, fh: int) -> None:
        """Nothing is kept for an open directory."""

    @_answers
    async def statfs(self, _ctx: Any) -> pyfuse3.StatvfsData:
        """Sizes; overlayfs takes no lower directory that does not tell them."""
        file_bytes, inodes = self._fs.totals()
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = _BLOCK
        data.f_blocks = -(-file_bytes // _BLOCK)
        data.f_bfree = data.f_bavail = 0
        data.f_files = inodes
        data.f_ffree = data.f_favail = 0
        data.f_namemax = MAX_NAME_BYTES
        return data

    @_answers
    async def getxattr(self, inode: int, name: bytes, _ctx: Any) -> bytes:
        """One extended attribute."""
        # Overlayfs asks for its own in every directory; images never have them.
        value = None if name.startswith(OVERLAY_XATTRS) else self._fs.xattr(inode, name)
        if value is None:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        return value

    @_answers
    async def listxattr(self, inode: int, _ctx: Any) -> Sequence[bytes]:
        """Names of all extended attributes."""
        return [name for name, _ in self._fs.xattrs(inode)]

    def _reply(self, token: pyfuse3.ReaddirToken, directory: int, name: Name) -> bool:
        entry = self._entry(directory, name.inode, name.node)
        replied: bool = pyfuse3.readdir_reply(token, name.name, entry, name.cookie)
        return replied

    def _absent(self, parent: int) -> pyfuse3.EntryAttributes:
        if not self._fs.absence_lasts(parent):
            raise pyfuse3.FUSEError(errno.ENOENT)
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = LASTING_S
        return entry

    def _entry(self, parent: int, inode: int, node: Node) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.entry_timeout = LASTING_S if self._fs.names_last(parent) else 0.0
        entry.attr_timeout = LASTING_S
        entry.st_mode = node.mode
        entry.st_nlink = node.nlink
        entry.st_uid = node.uid
        entry.st_gid = node.gid
        entry.st_size = node.size
        entry.st_blocks = (node.size + 511) >> 9
        entry.st_mtime_ns = entry.st_ctime_ns = entry.st_atime_ns = node.mtime_ns
        if node.rdev != (0, 0):
            entry.st_rdev = os.makedev(*node.rdev)
        return entry
