"""The values and errors of a snapshotter, in containerd's words.

A *key* names an active or a view snapshot and a *name* a committed one; they share one
namespace and are opaque. An *id* is ours: it names the snapshot's directory and never returns.

SnapshotError
    NotFound            the key, name or parent is unknown
    AlreadyExists       the key or name is in use
    InvalidArgument     the request can never be right
    FailedPrecondition  right in itself, but not in the state the snapshots are in
    Unavailable         a thin root cannot be had now: daemon or repository out of reach
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class SnapshotError(Exception):
    """Base of what a snapshotter refuses; the message is for the person at the client."""


class NotFound(SnapshotError):  # noqa: N818 - containerd's word
    """The key, name or parent is unknown."""


class AlreadyExists(SnapshotError):  # noqa: N818 - containerd's word
    """The key or name is in use."""


class InvalidArgument(SnapshotError):  # noqa: N818 - containerd's word
    """The request can never be right."""


class FailedPrecondition(SnapshotError):  # noqa: N818 - containerd's word
    """The snapshots are not in the state that the request needs."""


class Unavailable(SnapshotError):  # noqa: N818 - gRPC's word
    """A thin root cannot be had now; the same request may succeed later."""


class Kind(IntEnum):
    """What a snapshot is; the numbers are those of containerd's API and of the metastore."""

    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3


@dataclass(frozen=True, slots=True)
class Info:
    """What is told about a snapshot.

    Attributes:
        name: its key or name.
        parent: name of the committed snapshot below it, or empty.
        kind: what it is.
        created_ns: nanoseconds since 1970; a commit counts as creation.
        updated_ns: the last change of labels, likewise.
        labels: never with an empty value.
    """

    name: str
    parent: str
    kind: Kind
    created_ns: int
    updated_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a snapshot itself takes, without its parents: bytes on disk and inodes."""

    size_bytes: int = 0
    inodes: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as the metastore knows it.

    Attributes:
        id: names its directory.
        info: what clients see.
        usage: as measured at commit; zero before.
        recipe: text of ``thin.json`` when this is a thin image's layer.
    """

    id: int
    info: Info
    usage: Usage = Usage()
    recipe: str | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount for the client to make.

    Attributes:
        type: ``bind`` or ``overlay``.
        source: directory of a bind mount, ``overlay`` otherwise.
        options: as for mount(8), one each.
    """

    type: str
    source: str
    options: tuple[str, ...]
