"""What two trees have in common: by content, and by the objects that contents lie in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from catalog.reader import CatalogReader


@dataclass(frozen=True, slots=True)
class Part:
    """Some distinct things of one kind.

    Attributes:
        count: how many.
        bytes: the sum of their sizes.
    """

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Shares:
    """The distinct things of one kind that two images have.

    Attributes:
        shared: in both; sizes as the second one gives them.
        only_a: only in the first.
        only_b: only in the second: what who has the first still needs for the second.
    """

    shared: Part
    only_a: Part
    only_b: Part


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two trees.

    Attributes:
        contents: file bodies, in uncompressed bytes.
        objects: stored objects, in bytes as stored.
    """

    contents: Shares
    objects: Shares


def compare(a: CatalogReader, b: CatalogReader) -> Comparison:
    """Compare two catalogs, in one pass over each and with little memory.

    Raises:
        DamagedCatalog: what cannot be read is no basis for a comparison.
    """
    return Comparison(
        contents=shares(_contents(a), _contents(b)),
        objects=shares(_objects(a), _objects(b)),
    )


def shares(a: Iterable[tuple[bytes, int]], b: Iterable[tuple[bytes, int]]) -> Shares:
    """Compare two sets of things.

    Args:
        a: (digest, size) of each, ascending by digest, none twice.
        b: the same of the other set.
    """
    both, only_a, only_b = [0, 0], [0, 0], [0, 0]
    left, right = iter(a), iter(b)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            _add(only_a, one[1])
            one = next(left, None)
        elif one is None or other[0] < one[0]:
            _add(only_b, other[1])
            other = next(right, None)
        else:
            _add(both, other[1])
            one, other = next(left, None), next(right, None)
    return Shares(Part(*both), Part(*only_a), Part(*only_b))


def _add(part: list[int], size: int) -> None:
    part[0] += 1
    part[1] += size


def _contents(reader: CatalogReader) -> Iterator[tuple[bytes, int]]:
    return ((content.digest, content.size) for _, content in reader.contents())


def _objects(reader: CatalogReader) -> Iterator[tuple[bytes, int]]:
    return ((each.digest, each.stored_size) for each in reader.objects())
