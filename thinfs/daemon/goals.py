"""What of an image is to be brought to a node: which files that makes, and in which objects."""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from thinfs.cache.images import PATHS, PROFILE
from thinfs.cache.places import Kind, counted
from thinfs.cache.plan import layout_digest
from thinfs.errors import MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from catalog.model import Content, ObjectRef
    from catalog.reader import CatalogReader
    from thinfs.cache.images import Files
    from thinfs.roots.boot import BootContents
    from thinfs.roots.contents import RootMap

_FROM_THE_FIRST: Final = bytes(32)


@dataclass(slots=True)
class Goal:
    """Contents to have, and the objects to fetch for them, each once and in this order.

    Attributes:
        files: what the contents count in the cache.
        objects: by digest.
    """

    files: Files = field(default_factory=dict)
    objects: dict[bytes, ObjectRef] = field(default_factory=dict)


def goal_of(part: str, known: RootMap, catalog: CatalogReader, origin: str) -> Goal:
    """The contents and objects of a part of an image. Looks at the whole catalog.

    Args:
        part: as :class:`thinfs.cache.images.Wanted` has it.
        known: where the root's contents are.
        catalog: of the root.
        origin: the image, for messages.

    Raises:
        UsageError: the image has no boot profile.
        MissingError: no file has a path that is wanted.
    """
    kind, *patterns = part.split("\n")
    if kind == PATHS:
        return _of_contents(known, catalog, _matching(catalog, patterns, origin))
    if kind == PROFILE:
        boot = known.boot
        if boot is None or not boot.names_contents:
            raise UsageError(f"{origin} has no boot profile: record one, or warm --all of it")
        return _of_profile(boot)
    return _of_all(known, catalog)


def _of_all(known: RootMap, catalog: CatalogReader) -> Goal:
    goal = Goal()
    if known.boot is not None:
        for content in _contents_of(known.boot):
            _add(goal, known, content)
    goal.objects.update((ref.digest, ref) for ref in catalog.objects())
    for _, content in catalog.contents():
        if content.extents:
            goal.files[Kind.CONTENT, content.digest] = counted(content.size)
    return goal


def _of_contents(known: RootMap, catalog: CatalogReader, numbers: Iterable[int]) -> Goal:
    goal = Goal()
    for number in numbers:
        # Where readers look for it: the boot record may know it, too.
        own = known.number(catalog.content(number).digest)
        assert own is not None
        _add(goal, known, known.content(own))
    return goal


def _add(goal: Goal, known: RootMap, content: Content) -> None:
    """A whole content; one that is all hole is never asked for."""
    if content.extents:
        goal.files[Kind.CONTENT, content.digest] = counted(content.size)
    for extent in content.extents:
        _add_object(goal, known, extent.object)


def _of_profile(boot: BootContents) -> Goal:
    goal = Goal()
    metadata = {ref.digest for ref in boot.metadata_objects()}
    goal.objects.update((ref.digest, ref) for ref in boot.order if ref.digest not in metadata)
    for content in _contents_of(boot):
        coming = [extent.length for extent in content.extents if extent.object in goal.objects]
        if content.extents and len(coming) == len(content.extents):
            goal.files[Kind.CONTENT, content.digest] = counted(content.size)
        elif coming:
            size = sum(counted(length) for length in coming)
            goal.files[Kind.PARTIAL, layout_digest(content)] = size
    return goal


def _contents_of(boot: BootContents) -> Iterator[Content]:
    """Contents of files, without the metadata image."""
    for digest in boot.digests_from(_FROM_THE_FIRST, 1 << 32):
        number = boot.number(digest)
        if number:
            yield boot.content(number)


def _add_object(goal: Goal, known: RootMap, digest: bytes) -> None:
    if digest not in goal.objects:
        ref = known.object(digest)
        if ref is not None:  # else nobody can read it, and the end of warming says so
            goal.objects[digest] = ref


def _matching(catalog: CatalogReader, patterns: Sequence[str], origin: str) -> Iterator[int]:
    """Numbers of the contents of matching files; ``*`` matches ``/``, a directory all below."""
    tests = [
        re.compile(os.fsencode(fnmatch.translate(pattern.strip("/") + end)))
        for pattern in patterns
        for end in ("", "/*")
    ]
    found = False
    for path, node in catalog.walk():
        if any(test.match(path) for test in tests):
            found = True
            if node.content_id:
                yield node.content_id
    if not found:
        raise MissingError(f"{origin} has no path that matches {' or '.join(patterns)}")
