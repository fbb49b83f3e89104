"""What the kernel is told when something fails: the one table of errno values.

Whatever the reason, bytes that cannot be had are an input/output error. A missing object is
never ENOENT: the file exists, and a program that hears otherwise goes on with wrong results.
"""

from __future__ import annotations

import errno
from typing import Final

from catalog.errors import CatalogError
from thinfs.errors import ThinfsError


class StaleInode(Exception):  # noqa: N818 - what it says is what it is
    """An inode number of a tree that is not attached, or one its tree does not have."""


class NotALink(Exception):  # noqa: N818 - as above
    """readlink of something that is no symbolic link."""


class NotRegular(Exception):  # noqa: N818 - as above
    """open of something that is no regular file."""


ERRNOS: Final[dict[type[Exception], int]] = {
    StaleInode: errno.ESTALE,
    NotALink: errno.EINVAL,
    NotRegular: errno.EINVAL,
    ThinfsError: errno.EIO,
    CatalogError: errno.EIO,
    OSError: errno.EIO,
}
"""By class, subclasses included; what is not here is a defect and EIO as well."""


def is_expected(error: Exception) -> bool:
    """Whether ``error`` has a place in the table; others deserve a traceback in the log."""
    return isinstance(error, tuple(ERRNOS))


def errno_of(error: Exception) -> int:
    """The errno value for anything that a file system method raises."""
    return next((ERRNOS[kind] for kind in type(error).__mro__ if kind in ERRNOS), errno.EIO)
