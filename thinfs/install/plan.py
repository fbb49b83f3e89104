"""What installing and uninstalling change, decided from what is there: no I/O.

Steps come in an order in which every prefix is sound: a file is there before another one names
it, and nothing names a file that is taken away. So a run that is killed between two steps leaves
a containerd that starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from thinfs.errors import FormatError
from thinfs.install import containerd, imports, settings, units
from thinfs.install.stamp import Author, author_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thinfs.install.containerd import Version

SETTINGS = PurePosixPath("/etc/thinfs/config.toml")
UNITS = PurePosixPath("/etc/systemd/system")
BACKUP_SUFFIX = ".before-thinfs"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are, as the running system will see them.

    Attributes:
        containerd_config: containerd's main configuration file.
        bin_directory: holds ``thinfs`` and ``thin-snapshotter``.
    """

    containerd_config: PurePosixPath
    bin_directory: PurePosixPath

    @property
    def drop_in(self) -> PurePosixPath:
        """Our own file beside containerd's."""
        return self.containerd_config.parent / imports.ENTRY

    @property
    def backup(self) -> PurePosixPath:
        """The user's containerd configuration as it was before the first edit."""
        return self.containerd_config.with_name(self.containerd_config.name + BACKUP_SUFFIX)

    def files(self) -> list[PurePosixPath]:
        """Every file a plan looks at."""
        named = [UNITS / units.DAEMON, UNITS / units.SNAPSHOTTER]
        return [SETTINGS, *named, self.drop_in, self.backup, self.containerd_config]


@dataclass(frozen=True, slots=True)
class Step:
    """One file that changes.

    Attributes:
        path: as the running system will see it.
        before: its bytes now, ``None`` when there is no such file.
        after: its bytes then, ``None`` to remove it.
        like: a new file gets owner and permissions of this one (a copy of a secret stays one).
    """

    path: PurePosixPath
    before: bytes | None
    after: bytes | None
    like: PurePosixPath | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Attributes:
        steps: in order; empty when nothing changes.
        notes: for the user, one sentence each.
    """

    steps: tuple[Step, ...]
    notes: tuple[str, ...]


Files: TypeAlias = "Mapping[PurePosixPath, bytes]"


def plan_install(layout: Layout, files: Files, version: Version | None, defaults: str) -> Plan:
    """What installing changes.

    Args:
        layout: where things are.
        files: those of ``layout.files()`` that exist, with their bytes.
        version: of containerd; ``None`` leaves its configuration alone.
        defaults: our configuration as TOML with comments: what the installed one shows.

    Raises:
        FormatError: containerd's configuration is not TOML.
        UsageError: it cannot be edited safely.
    """
    made = _Maker(files)
    made.ours(SETTINGS, settings.commented(defaults))
    for name, data in units.units(layout.bin_directory).items():
        made.ours(UNITS / name, data)
    if version is None:
        made.notes.append(
            "containerd was not found, so its configuration is left alone: install it and run "
            "this again, or give --containerd-version"
        )
    else:
        _register(made, layout, version)
    return made.plan()


def plan_uninstall(layout: Layout, files: Files) -> Plan:
    """What uninstalling changes: the reverse, without what the user has edited.

    Raises:
        FormatError: containerd's configuration is not TOML.
        UsageError: it cannot be edited safely.
    """
    made = _Maker(files)
    main = files.get(layout.containerd_config)
    if author_of(main) is Author.INSTALLER:
        made.remove(layout.containerd_config)
    elif main is not None:
        text = imports.without_entry(
            _decoded(main, layout.containerd_config), str(layout.containerd_config)
        )
        made.change(layout.containerd_config, text.encode())
        backup = files.get(layout.backup)
        if backup == text.encode():
            made.remove(layout.backup)
        elif backup is not None:
            made.notes.append(f"{layout.backup} is kept: your configuration has changed since")
    for path in (layout.drop_in, UNITS / units.SNAPSHOTTER, UNITS / units.DAEMON, SETTINGS):
        made.remove_ours(path)
    return made.plan()


def _register(made: _Maker, layout: Layout, version: Version) -> None:
    path = layout.containerd_config
    data = made.files.get(path)
    new = containerd.new_main(version, imports.ENTRY)
    if author_of(data) is not Author.USER:
        made.ours(layout.drop_in, containerd.drop_in(version, imports.parse(new.decode(), "")))
        made.ours(path, new)
        return
    text = _decoded(data or b"", path)
    main = imports.parse(text, str(path))
    if containerd.registers_plugin(main):
        made.notes.append(f"{path} registers `{containerd.PLUGIN}` itself: left as it is")
        return
    made.ours(layout.drop_in, containerd.drop_in(version, main))
    if not imports.covers(imports.imports_of(main), path.parent):
        if layout.backup not in made.files:
            made.change(layout.backup, data, like=path)
        made.change(path, imports.with_entry(text, str(path)).encode())


def _decoded(data: bytes, path: PurePosixPath) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8, so it is no TOML: {error}") from error


class _Maker:
    """Collects steps and notes; a change to the bytes that are there already is none."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.notes: list[str] = []
        self._steps: list[Step] = []

    def change(
        self, path: PurePosixPath, after: bytes | None, like: PurePosixPath | None = None
    ) -> None:
        before = self.files.get(path)
        if before != after:
            self._steps.append(Step(path, before, after, like))

    def remove(self, path: PurePosixPath) -> None:
        self.change(path, None)

    def ours(self, path: PurePosixPath, data: bytes) -> None:
        """Make or update a file of ours, unless somebody has edited it."""
        if author_of(self.files.get(path)) is Author.USER:
            self.notes.append(f"{path} has been edited: kept as it is")
        else:
            self.change(path, data)

    def remove_ours(self, path: PurePosixPath) -> None:
        if author_of(self.files.get(path)) is Author.USER:
            self.notes.append(f"{path} has been edited: kept; remove it yourself")
        else:
            self.remove(path)

    def plan(self) -> Plan:
        return Plan(tuple(self._steps), tuple(self.notes))
