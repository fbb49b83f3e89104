"""Which repositories this node may read from: the configuration decides, never the recipe.

Pure: nothing is looked up and nothing is contacted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from thinfs.errors import UsageError
from thinfs.store.address import directory_address, parse_address

if TYPE_CHECKING:
    from thinfs.config import RepositoryConfig, SourcesConfig
    from thinfs.store.address import Address


def allowed_address(url: str, sources: SourcesConfig, repository: RepositoryConfig) -> Address:
    """Take a repository's URL apart if this node may read from it.

    An entry of ``[sources] allow`` allows its own place and what lies below it: scheme, host
    and port are equal, and the path continues it by whole components. The directory
    ``[repository] path`` is always allowed.

    Raises:
        UsageError: the URL is malformed, or no entry allows it; the message says what to add.
    """
    address = parse_address(url)
    if any(entry.holds(address) for entry in _entries(sources, repository)):
        return address
    raise UsageError(
        f"repository {address.url} is not allowed on this node:"
        f' add "{address.url}/" to allow in [sources] if it is to be read from'
    )


def is_allowed(url: str, sources: SourcesConfig, repository: RepositoryConfig) -> bool:
    """Whether :func:`allowed_address` would accept ``url``.

    Raises:
        UsageError: an entry of the configuration itself is malformed.
    """
    entries = _entries(sources, repository)
    try:
        address = parse_address(url)
    except UsageError:
        return False
    return any(entry.holds(address) for entry in entries)


def _entries(sources: SourcesConfig, repository: RepositoryConfig) -> list[Address]:
    # fsencode and abspath look at the text and at the working directory only, never at the disk.
    local = directory_address(os.fsencode(os.path.abspath(repository.path)))  # noqa: PTH100 - resolve() would look at the disk
    return [local, *(parse_address(entry) for entry in sources.allow)]
