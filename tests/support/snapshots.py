"""A snapshotter without a daemon: fakes, thin layers, and a check that disk and rows agree."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snapshotter.metastore import Metastore
from snapshotter.model import Kind
from snapshotter.mounts import Layout
from snapshotter.snapshotter import Snapshotter
from thinfs.control.values import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from thinfs.errors import ThinfsError

RECIPE = json.dumps({"version": "1.0", "origin": "example/redis:4", "layers": []})


@dataclass
class FakeRoots:
    """Holds roots as files in a directory, so that they outlive a killed process.

    Attributes:
        directory: ``holders/<holder>`` holds a recipe; ``tree`` stands for every root.
        failures: raised by the next calls, the first by the next; None lets a call through.
        on_attach: called before an attach does anything.
        expected: recipes that were said to be wanted soon.
    """

    directory: Path
    failures: list[ThinfsError | None] = field(default_factory=list)
    on_attach: Callable[[], object] = lambda: None
    expected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._holders.mkdir(parents=True, exist_ok=True)
        self.tree.mkdir(exist_ok=True)

    @property
    def tree(self) -> Path:
        return self.directory / "tree"

    @property
    def _holders(self) -> Path:
        return self.directory / "holders"

    @property
    def holders(self) -> dict[str, str]:
        """Recipes by holder."""
        return {path.name: path.read_text() for path in self._holders.iterdir()}

    def attach(self, holder: str, recipe: str) -> Root:
        self.on_attach()
        self._fail()
        (self._holders / holder).write_text(recipe)
        return Root("0" * 16, "tree", str(self.tree), str(self.tree), "", [holder])

    def expect(self, recipe: str) -> None:
        self.expected.append(recipe)

    def detach(self, holder: str) -> None:
        self._fail()
        (self._holders / holder).unlink(missing_ok=True)

    def _fail(self) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure


class Bench:
    """A snapshotter in a folder, and what stands around it.

    Args:
        folder: an empty folder, or that of an earlier bench, to open it again.
        options: what every overlay gets.
        thin_options: what overlays upon thin roots get besides.
    """

    def __init__(
        self, folder: Path, *, options: Sequence[str] = (), thin_options: Sequence[str] = ()
    ) -> None:
        self.root = folder / "root"
        self.layout = Layout(self.root / "snapshots")
        self.layout.directory.mkdir(parents=True, exist_ok=True)
        self.roots = FakeRoots(folder / "daemon")
        self.store = Metastore(self.root / "metadata.sqlite")
        self.time_ns = 1_000
        self.snapshotter = Snapshotter(
            self.layout,
            self.store,
            self.roots,
            options=options,
            thin_options=thin_options,
            clock=self._tick,
        )

    def _tick(self) -> int:
        self.time_ns += 1
        return self.time_ns

    def close(self) -> None:
        self.store.close()

    def fs(self, key: str) -> Path:
        """The files of a snapshot itself."""
        return self.layout.fs(self.store.get(key).id)

    def commit_ordinary(self, name: str, parent: str = "") -> None:
        """Commit a snapshot with one file that is called like it."""
        key = f"extract {name}"
        self.snapshotter.prepare(key, parent, {})
        (self.fs(key) / name.replace("/", "-")).write_text(name)
        self.snapshotter.commit(name, key, {})

    def commit_thin(self, name: str, recipe: str = RECIPE) -> None:
        """Commit a snapshot as an unpacked thin image leaves it."""
        key = f"extract {name}"
        self.snapshotter.prepare(key, "", {})
        (self.fs(key) / "thin.json").write_text(recipe)
        self.snapshotter.commit(name, key, {})

    def holder(self, key: str) -> str:
        """What the daemon knows a snapshot as."""
        return f"snapshot-{self.store.instance}-{self.store.get(key).id}"


def disagreements(layout: Layout, store: Metastore) -> Iterator[str]:
    """What breaks the agreement of rows and directories, one sentence each.

    Directories without a row are no disagreement before a clean-up: see :func:`orphans`.
    """
    infos = store.all()
    names = {info.name: info for info in infos}
    for info in infos:
        home = layout.home(store.get(info.name).id)
        wanted = {"fs"} if info.kind is Kind.VIEW else {"fs", "work"}
        present = {path.name for path in home.iterdir()} if home.is_dir() else set()
        for name in sorted(wanted - present):
            yield f"{info.name} has no {name}"
        if info.parent and info.parent not in names:
            yield f"{info.name} has the parent {info.parent}, which is not there"
        if info.parent in names and names[info.parent].kind is not Kind.COMMITTED:
            yield f"{info.name} stands upon {info.parent}, which is not committed"


def orphans(layout: Layout, store: Metastore) -> Iterator[str]:
    """Directories that no snapshot has."""
    known = {str(store.get(info.name).id) for info in store.all()}
    for path in sorted(layout.directory.iterdir()):
        if path.name not in known:
            yield f"directory {path.name} belongs to no snapshot"


def forgotten_holders(store: Metastore, roots: FakeRoots) -> Iterator[str]:
    """Holders at the daemon that the store has no claim for: nothing would ever release them."""
    claims = {f"snapshot-{store.instance}-{claim}" for claim in store.claims()}
    for holder in sorted(roots.holders.keys() - claims):
        yield f"{holder} holds a root and is forgotten"


def needless_holders(store: Metastore, roots: FakeRoots) -> Iterator[str]:
    """Holders at the daemon that no active or view snapshot needs."""
    needed = set()
    for info in store.all():
        own, *chain = store.chain(info.name)
        if info.kind is not Kind.COMMITTED and chain and chain[-1].recipe is not None:
            needed.add(f"snapshot-{store.instance}-{own.id}")
    for holder in sorted(roots.holders.keys() - needed):
        yield f"{holder} holds a root that nobody needs"
    for holder in sorted(needed - roots.holders.keys()):
        yield f"{holder} needs a root and does not hold it"
