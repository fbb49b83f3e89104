"""containerd's rules for snapshots, and thin roots beneath them. No gRPC here.

The order of steps is what keeps rows and directories in agreement when the process is killed
between any two of them: directories are made before the row and deleted after it, the daemon
is asked after the claim is written and released before it is dropped. See docs/snapshotter.md.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from snapshotter import directories, recipes
from snapshotter.directories import Owner
from snapshotter.filters import parse_filters
from snapshotter.model import (
    FailedPrecondition,
    InvalidArgument,
    Kind,
    NotFound,
    Unavailable,
    Usage,
)
from snapshotter.mounts import Layout, is_unpacking, mounts
from snapshotter.uses import Uses
from thinfs.errors import (
    FormatError,
    IntegrityError,
    MissingError,
    StoreError,
    ThinfsError,
    TransportError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from snapshotter.metastore import Metastore
    from snapshotter.model import Info, Mount, Snapshot, SnapshotError
    from thinfs.control.values import Root

log = logging.getLogger(__name__)

DAEMON_ERRORS: dict[type[ThinfsError], type[SnapshotError]] = {
    UsageError: FailedPrecondition,
    FormatError: FailedPrecondition,
    # Not NotFound: that would tell containerd that the parent snapshot is missing.
    MissingError: Unavailable,
    IntegrityError: Unavailable,
    TransportError: Unavailable,
    StoreError: Unavailable,
}
"""What the client hears when the daemon refuses or fails, by the daemon's error."""


class Roots(Protocol):
    """The part of the daemon's control API that a snapshotter needs; called from any thread."""

    def attach(self, holder: str, recipe: str) -> Root:
        """Make a root be there until its holder gives it up; may be repeated.

        Raises:
            ThinfsError: the daemon is out of reach, or it refuses or fails.
        """

    def expect(self, recipe: str) -> None:
        """Say that a root will probably be wanted in a moment.

        Raises:
            ThinfsError: the daemon is out of reach, or it refuses.
        """

    def detach(self, holder: str) -> None:
        """Give up what a holder has; an unknown holder is no error.

        Raises:
            ThinfsError: the daemon is out of reach or fails.
        """


@dataclass(frozen=True, slots=True)
class _Below:
    """What a new or existing snapshot stands upon.

    Attributes:
        ids: of the snapshots below, the nearest first.
        recipe: of the last of them, when that is a thin layer.
    """

    ids: tuple[int, ...]
    recipe: str | None

    @property
    def nearest(self) -> int | None:
        return self.ids[0] if self.ids else None

    @classmethod
    def of(cls, chain: Sequence[Snapshot]) -> _Below:
        return cls(tuple(s.id for s in chain), chain[-1].recipe if chain else None)


class Snapshotter:
    """Snapshots in one directory, for any number of threads.

    Args:
        layout: where snapshots are; the directory exists and nobody else writes to it.
        store: what is remembered about them; the caller closes it.
        roots: the daemon.
        options: what every overlay gets on this machine.
        thin_options: what overlays upon thin roots get besides.
        clock: gives nanoseconds since 1970.
    """

    def __init__(
        self,
        layout: Layout,
        store: Metastore,
        roots: Roots,
        *,
        options: Sequence[str] = (),
        thin_options: Sequence[str] = (),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._layout = layout
        self._store = store
        self._roots = roots
        self._options = tuple(options)
        self._thin_options = tuple(thin_options)
        self._clock = clock
        self._uses = Uses()

    def stat(self, key: str) -> Info:
        """Tell about one snapshot.

        Raises:
            NotFound: there is none of that key or name.
        """
        return self._store.get(key).info

    def list(self, filters: Sequence[str]) -> list[Info]:
        """Tell about all snapshots that any of the filters matches, as of one moment.

        Raises:
            InvalidArgument: a filter is malformed.
        """
        matches = parse_filters(filters)
        return [info for info in self._store.all() if matches(info)]

    def update(self, name: str, labels: Mapping[str, str], paths: Sequence[str]) -> Info:
        """Change labels, the only thing about a snapshot that can be changed.

        Args:
            name: key or name of the snapshot.
            labels: the new ones; an empty value deletes.
            paths: ``labels`` or ``labels.<label>`` each; none: all labels are replaced.

        Raises:
            NotFound: there is none of that key or name.
            InvalidArgument: a path names anything else.
        """
        replace = not paths or "labels" in paths
        changes = dict(labels) if replace else {}
        for path in paths:
            field, _, label = path.partition(".")
            if field != "labels" or (not label and path != "labels"):
                raise InvalidArgument(f"cannot update {path!r} of snapshot {name}: only its labels")
            if label:
                changes[label] = labels.get(label, "")
        return self._store.set_labels(name, changes, replace=replace, now=self._clock())

    def usage(self, key: str) -> Usage:
        """Measure what a snapshot itself takes; a committed one was measured at commit.

        Raises:
            NotFound: there is none of that key or name.
        """
        found = self._store.get(key)
        if found.info.kind is Kind.ACTIVE:
            return directories.usage(self._layout.fs(found.id))
        return found.usage

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """Make an active (writable) snapshot and tell how to mount it.

        Raises:
            InvalidArgument: the key is empty, or the parent is not committed.
            NotFound: there is no such parent.
            AlreadyExists: the key is in use.
            Unavailable: the parent is thin and its root cannot be had now.
            FailedPrecondition: the parent is thin and this node refuses its recipe.
        """
        return self._create(Kind.ACTIVE, key, parent, labels)

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """Make a read-only snapshot and tell how to mount it; raises as :meth:`prepare`."""
        return self._create(Kind.VIEW, key, parent, labels)

    def mounts(self, key: str) -> tuple[Mount, ...]:
        """Tell how to mount an active or view snapshot, and make a thin root be there again.

        Raises:
            NotFound: there is none of that key.
            FailedPrecondition: it is committed, or this node refuses its recipe.
            Unavailable: its root is thin and cannot be had now.
        """
        snapshot_id = self._store.get(key).id
        with self._uses.shared(snapshot_id):
            own, *chain = self._store.chain(key)
            if own.id != snapshot_id:
                raise NotFound(f"snapshot {key}: was removed in the meantime")
            if own.info.kind is Kind.COMMITTED:
                raise FailedPrecondition(f"snapshot {key}: is committed and cannot be mounted")
            below = _Below.of(chain)
            root = self._attach(own.id, key, below.recipe)
            return self._mounts(own.info.kind, key, own.id, below, root)

    def commit(self, name: str, key: str, labels: Mapping[str, str], parent: str = "") -> None:
        """Make an active snapshot a committed one that others can stand upon.

        Args:
            name: what it is called from now on.
            key: what it was called.
            labels: replace those that it had.
            parent: if given, must be the parent that it has.

        Raises:
            NotFound: there is none of that key.
            AlreadyExists: the name is in use.
            InvalidArgument: the name is empty, or the parent is another one.
            FailedPrecondition: the snapshot is not active.
        """
        _refuse_empty(name)
        found = self._store.get(key)
        if parent not in ("", found.info.parent):
            raise InvalidArgument(f"snapshot {key}: cannot change its parent to {parent}")
        fs = self._layout.fs(found.id)
        active = found.info.kind is Kind.ACTIVE
        usage = directories.usage(fs) if active else Usage()
        recipe = recipes.recognise(fs, name, is_base=not found.info.parent) if active else None
        self._store.commit(
            key,
            name,
            expected_id=found.id,
            usage=usage,
            labels=labels,
            recipe=recipe,
            now=self._clock(),
        )
        if recipe is not None:
            self._expect(name, recipe)

    def _expect(self, name: str, recipe: str) -> None:
        """Let the daemon begin while the client goes on to make a container.

        What is wrong is told to who prepares one.
        """
        try:
            self._roots.expect(recipe)
        except ThinfsError as error:
            log.debug("snapshot %s: its root is not made ready: %s", name, error)

    def remove(self, key: str) -> None:
        """Forget a snapshot; its directory and its claim on a root go at the next cleanup.

        Raises:
            NotFound: there is none of that key or name.
            FailedPrecondition: others are stacked upon it.
        """
        self._store.remove(key)

    def cleanup(self) -> None:
        """Delete the directories and give up the roots that no snapshot needs any more.

        What does not work now is logged, and tried again the next time.
        """
        self.delete_orphans()
        for snapshot_id in self._store.claims():
            if not self._release(snapshot_id):
                return

    def delete_orphans(self) -> None:
        """Delete the directories that no snapshot has: of removed ones, and of killed calls."""
        for name in directories.present(self._layout):
            if name.isdecimal():
                self._delete_orphan(int(name))

    def _create(
        self, kind: Kind, key: str, parent: str, labels: Mapping[str, str]
    ) -> tuple[Mount, ...]:
        _refuse_empty(key)
        below = _Below.of(self._store.parents(key, parent))
        snapshot_id = self._store.new_id()
        with self._uses.shared(snapshot_id):
            root = self._attach(snapshot_id, key, below.recipe)
            try:
                owner = self._owner(below, root)
                writable = kind is Kind.ACTIVE
                directories.make(self._layout, snapshot_id, writable=writable, owner=owner)
                now = self._clock()
                made = self._mounts(kind, key, snapshot_id, below, root)
                self._store.create(snapshot_id, kind, key, below.nearest, labels=labels, now=now)
            except BaseException:
                directories.delete(self._layout.home(snapshot_id))
                raise
        return made

    def _attach(self, snapshot_id: int, key: str, recipe: str | None) -> Root | None:
        """Make the root of a thin chain be there; None for an ordinary chain."""
        if recipe is None:
            return None
        self._store.add_claim(snapshot_id)
        try:
            root = self._roots.attach(self._holder(snapshot_id), recipe)
        except ThinfsError as error:
            message = f"snapshot {key}: its thin root cannot be attached: {error}"
            raise _daemon_error(error)(message) from error
        _check_root(root)
        return root

    def _owner(self, below: _Below, root: Root | None) -> Owner | None:
        """Tell whose a new snapshot's root directory is: that of the nearest one below.

        Its permissions are not taken over, upon a thin root neither: containers see 0755 there
        with containerd's own snapshotters, and images whose own root is 0700 rely on it.
        """
        if below.nearest is None:
            return None
        if root is not None and len(below.ids) == 1:
            return _root_owner(root)
        try:
            return Owner.of(self._layout.fs(below.nearest))
        except FileNotFoundError as error:
            raise NotFound("the parent was removed in the meantime") from error

    def _mounts(
        self, kind: Kind, key: str, snapshot_id: int, below: _Below, root: Root | None
    ) -> tuple[Mount, ...]:
        """Tell how to mount a snapshot whose directories are there."""
        made = mounts(
            self._layout,
            kind,
            snapshot_id,
            below.ids,
            root=root,
            options=self._options if root is None else (*self._options, *self._thin_options),
            unpacking=is_unpacking(key),
        )
        link = self._layout.link(snapshot_id)
        if root is not None and any(str(link) in option for option in made[0].options):
            directories.link(link, root.directory)
        return made

    def _delete_orphan(self, snapshot_id: int) -> None:
        with self._uses.sole(snapshot_id) as mine:
            if mine and not self._store.has(snapshot_id):
                directories.delete(self._layout.home(snapshot_id))

    def _release(self, snapshot_id: int) -> bool:
        """Give up a claim if no snapshot needs it; False when the daemon did not answer."""
        with self._uses.sole(snapshot_id) as mine:
            if not mine or self._store.is_mountable(snapshot_id):
                return True
            try:
                self._roots.detach(self._holder(snapshot_id))
            except ThinfsError as error:
                log.warning("cannot give up a root, will try again at the next cleanup: %s", error)
                return False
            self._store.drop_claim(snapshot_id)
            return True

    def _holder(self, snapshot_id: int) -> str:
        return f"snapshot-{self._store.instance}-{snapshot_id}"


def _refuse_empty(key: str) -> None:
    if not key:
        raise InvalidArgument("a snapshot needs a key or name that is not empty")


def _daemon_error(error: ThinfsError) -> type[SnapshotError]:
    for known in type(error).__mro__:
        if known in DAEMON_ERRORS:
            return DAEMON_ERRORS[known]
    return Unavailable


def _root_owner(root: Root) -> Owner:
    try:
        return Owner.of(Path(root.directory))
    except OSError as error:
        raise Unavailable(f"thin root {root.id} does not answer: {error}") from error


def _check_root(root: Root) -> None:
    """Refuse an answer of the daemon that would corrupt the options of a mount."""
    for path in (root.lowerdir, root.directory):
        if not path.startswith("/") or "," in path:
            raise Unavailable(f"the daemon gave a root that cannot be mounted: {path!r}")
