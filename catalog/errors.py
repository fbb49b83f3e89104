"""What can be wrong with a catalog.

CatalogError
    InvalidEntry    an entry that no tree may hold: the layer it came from is refused
    DamagedCatalog  a file that is not a catalog, or one whose rows break an invariant
"""

from __future__ import annotations


class CatalogError(Exception):
    """Anything this library refuses; the message says what and where."""


class InvalidEntry(CatalogError):  # noqa: N818 - reads as what it is
    """An entry that no tree may hold (a bad path, a hard link to nothing, a file as a parent)."""


class DamagedCatalog(CatalogError):  # noqa: N818 - reads as what it is
    """A file that is no catalog, of another version, or that breaks one of its invariants."""
