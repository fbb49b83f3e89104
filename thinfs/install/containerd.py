"""What containerd must be told about the snapshotter, for each of its versions: no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import tomli_w

from thinfs.errors import UsageError
from thinfs.install.stamp import stamped

PLUGIN = "thin"
"""Name of the snapshotter: ``nerdctl --snapshotter=thin``."""

ADDRESS = "/run/thinfs/snapshotter.sock"
"""The snapshotter's socket, as ``thin-snapshotter`` has it by default."""

ROOT = "/var/lib/thinfs/snapshotter"
"""Where snapshots are: the file system whose room the kubelet watches."""

TRANSFER = "io.containerd.transfer.v1.local"

_VERSION = re.compile(r"v?(\d{1,3})\.(\d{1,3})")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A containerd version.

    Attributes:
        major: 1 or 2.
        minor: the number behind it.
    """

    major: int
    minor: int

    @property
    def config_version(self) -> int:
        """The configuration format a new file is written in: the oldest it knows and likes."""
        return 2 if self.major < 2 else 3


def parse_version(text: str) -> Version:
    """Read ``1.7``, ``v2.1.4`` or what ``containerd --version`` prints.

    Raises:
        UsageError: there is no version in it, or one before 1.6.
    """
    found = next((word for word in map(_VERSION.match, text.split()) if word), None)
    if found is None:
        raise UsageError(f"no containerd version in {text.strip()!r}; give one such as 1.7")
    version = Version(int(found[1]), int(found[2]))
    if version < Version(1, 6):
        raise UsageError(f"containerd {found[0]} is too old: thinfs needs 1.6 or newer")
    return version


def drop_in(version: Version, main: dict[str, Any]) -> bytes:
    """The file ``conf.d/thinfs.toml``.

    Its configuration version is the importing file's: containerd takes the last one it reads for
    all files, so a newer one here would keep it from migrating the user's sections.

    Args:
        version: of the containerd that will read it.
        main: the parsed file that imports it.
    """
    config: dict[str, Any] = {}
    if isinstance(main.get("version"), int):
        config["version"] = main["version"]
    plugin: dict[str, Any] = {"type": "snapshot", "address": ADDRESS}
    config["proxy_plugins"] = {PLUGIN: plugin}
    if version.major >= 2:
        plugin["exports"] = {"root": ROOT, "enable_remote_snapshot_annotations": "true"}
        config["plugins"] = {TRANSFER: {"unpack_config": _unpack_config(main)}}
    about = (
        "# Registers the snapshotter `thin`. Read because containerd's config.toml imports it.\n"
    )
    return stamped(about + "\n" + tomli_w.dumps(config))


def new_main(version: Version, entry: str) -> bytes:
    """A ``config.toml`` for machines that have none: it only imports ours."""
    config = {"version": version.config_version, "imports": [entry]}
    return stamped(tomli_w.dumps(config))


def registers_plugin(config: dict[str, Any]) -> bool:
    """Whether a parsed configuration has a proxy plugin of our name itself."""
    plugins = config.get("proxy_plugins")
    return isinstance(plugins, dict) and PLUGIN in plugins


def _unpack_config(main: dict[str, Any]) -> list[dict[str, Any]]:
    """What may be unpacked into: the user's choices, and both of ours.

    A list here replaces the default (overlayfs) as well as the list of the importing file.
    ``linux`` without an architecture means the machine's own.
    """
    plugins = main.get("plugins")
    transfer = plugins.get(TRANSFER) if isinstance(plugins, dict) else None
    listed = transfer.get("unpack_config") if isinstance(transfer, dict) else None
    entries = [each for each in listed or [] if isinstance(each, dict)]
    known = {each.get("snapshotter") for each in entries}
    ours = [name for name in (PLUGIN, "overlayfs") if name not in known]
    return entries + [{"platform": "linux", "snapshotter": name} for name in ours]
