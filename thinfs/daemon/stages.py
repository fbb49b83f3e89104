"""What is fetched of a root before anybody asks, and in which order."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from thinfs.cache.prefetch import Stage
from thinfs.fetch.gate import Priority
from thinfs.roots.metadata import comes_in_pieces
from thinfs.roots.opening import REST_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from catalog.model import ObjectRef
    from thinfs.roots.boot import BootContents
    from thinfs.roots.contents import RootMap
    from thinfs.roots.opening import OpenRoot

_AT_ONCE: Final = 256


def stages(root: OpenRoot, *, pieces: bool, fill: bool) -> list[Stage]:
    """First what a start needs, then the metadata image, then, if that is wanted, all else.

    Args:
        root: as it has just been opened.
        pieces: whether metadata images are read in pieces here.
        fill: whether all of the root is to be on this node.
    """
    found: list[Stage] = []
    known = root.contents
    boot = known.boot
    rest_s = REST_S if known.has_profile else 0.0
    if boot is not None:
        assert root.recipe.thinfs is not None
        in_pieces = pieces and comes_in_pieces(root.recipe.thinfs.root)
        start = boot.order if in_pieces else _without_metadata(boot)
        found.append(Stage(Priority.PROFILE, _given(start)))
        if in_pieces:
            metadata = _given(boot.metadata_objects())
            found.append(Stage(Priority.BACKGROUND, metadata, rest_s))
    if fill:
        found.append(Stage(Priority.BACKGROUND, lambda: _all(known), rest_s))
    return found


def nothing_ahead(root: OpenRoot) -> list[Stage]:  # noqa: ARG001 - as stages
    """For recordings: what is read is to be what containers ask for."""
    return []


def _without_metadata(boot: BootContents) -> tuple[ObjectRef, ...]:
    metadata = {ref.digest for ref in boot.metadata_objects()}
    return tuple(ref for ref in boot.order if ref.digest not in metadata)


def _given(refs: Sequence[ObjectRef]) -> Callable[[], Awaitable[Sequence[ObjectRef]]]:
    async def objects() -> Sequence[ObjectRef]:
        return refs

    return objects


async def _all(known: RootMap) -> Sequence[ObjectRef]:
    """All objects that the catalog names; waits for it.

    Contents that the boot record knows are read from where it says, so those objects, too.
    """
    catalog = await known.catalog()
    found: list[ObjectRef] = list(known.boot.order) if known.boot is not None else []
    objects = catalog.objects()
    while some := list(islice(objects, _AT_ONCE)):
        found += some
        await trio.lowlevel.checkpoint()  # others read this catalog, too
    return found
