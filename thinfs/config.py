"""The configuration: one TOML file, every field documented here and shown by ``config show``.

Looked for at ``--config``, ``$THINFS_CONFIG``, then ``/etc/thinfs/config.toml`` for root and
``$XDG_CONFIG_HOME/thinfs/config.toml`` for other users. A missing file means the defaults;
a field that is not known is an error.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from thinfs.errors import UsageError

Positive = Annotated[int, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
SYSTEM_CONFIG = Path("/etc/thinfs/config.toml")


def _data_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/thinfs")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(base) / "thinfs"


def _run_home() -> Path:
    if os.geteuid() == 0:
        return Path("/run/thinfs")
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "thinfs" if base else _data_home() / "run"


def _default_repository() -> str:
    return str(_data_home() / "repository")


class RepositoryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[repository]: what `thinfs convert` writes.

    Attributes:
        path: directory of the repository.
        url: address that recipes carry; empty means the directory's file: address.
    """

    path: str = msgspec.field(default_factory=_default_repository)
    url: str = ""


class RegistryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[registry]: how images are pulled and pushed.

    Attributes:
        hosts_dirs: directories with <registry>/hosts.toml files, as containerd has them.
        docker_config: Docker's configuration file with credentials; empty means
            $DOCKER_CONFIG/config.json or ~/.docker/config.json.
        timeout_s: longest silence of a registry, in seconds.
        attempts: how often a request is tried.
    """

    hosts_dirs: list[str] = msgspec.field(
        default_factory=lambda: ["/etc/containerd/certs.d", "/etc/docker/certs.d"]
    )
    docker_config: str = ""
    timeout_s: PositiveSeconds = 30.0
    attempts: Positive = 5


class SourcesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[sources]: which repositories this node may read from, and how.

    Attributes:
        allow: repositories that recipes may name: prefixes of URLs, such as
            "https://images.example.org/" or "file:///srv/thinfs/". "file:" addresses below
            [repository] path are always allowed.
        mirrors: repositories that are tried, in this order, before those a recipe names.
        proxies: HTTP proxies, such as "http://a:3128|http://b:3128;http://c:3128;DIRECT":
            "|" shares the load, what stands behind ";" is for when all before it have failed.
            Empty means those of the environment (http_proxy, https_proxy, no_proxy).
        connect_timeout_s: longest wait for a connection.
        timeout_s: longest silence in the middle of an answer.
        proxy_timeout_s: the same through a proxy.
        low_speed_bytes_per_s: an answer that is slower for that long counts as silent.
        attempts: how often one way to an object is tried before the next one.
        proxy_reset_s: how long a proxy that failed is asked after the others.
        host_reset_s: how long a repository that failed is asked after the others.
        on_outage: what a reader gets when nothing answers: "eio": an error when read_timeout_s
            has passed; "wait": an error when outage_timeout_s has passed; "fail_fast": an error
            as soon as everything has been tried once.
        read_timeout_s: longest time a reader waits for bytes before it gets EIO.
        outage_timeout_s: the same with on_outage = "wait".
        connections: most connections to one host.
        background_bytes_per_s: most bytes per second for what no reader waits for; 0: no limit.
        ca_file: PEM file with the authorities that repositories' certificates are checked
            against; empty means the system's.
        client_certificate: PEM file with this node's certificate, for servers that ask for one.
        client_key: PEM file with its key, when client_certificate does not hold it.
        credentials: TOML file with logins: tables ["https://images.example.org"] with bearer, or
            with username and password. It is read again when it has changed. Empty means none.
    """

    allow: list[str] = msgspec.field(default_factory=list)
    mirrors: list[str] = msgspec.field(default_factory=list)
    proxies: str = ""
    connect_timeout_s: PositiveSeconds = 5.0
    timeout_s: PositiveSeconds = 10.0
    proxy_timeout_s: PositiveSeconds = 5.0
    low_speed_bytes_per_s: Count = 1024
    attempts: Positive = 2
    proxy_reset_s: PositiveSeconds = 300.0
    host_reset_s: PositiveSeconds = 1800.0
    on_outage: Literal["eio", "wait", "fail_fast"] = "eio"
    read_timeout_s: PositiveSeconds = 60.0
    outage_timeout_s: PositiveSeconds = 3600.0
    connections: Positive = 16
    background_bytes_per_s: Count = 0
    ca_file: str = ""
    client_certificate: str = ""
    client_key: str = ""
    credentials: str = ""


class CacheConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[cache]: what this node keeps on disk.

    Attributes:
        path: directory of the cache.
        max_bytes: quota; eviction starts here.
        low_water: eviction stops at this part of the quota, 0.1 to 1.
        memory_bytes: arrived objects kept in memory for readers that follow.
        fill: whether, after what a start needs, the rest of an attached image is fetched in the
            background.
    """

    path: str = msgspec.field(default_factory=lambda: str(_data_home() / "cache"))
    max_bytes: Positive = 20 << 30
    low_water: Annotated[float, msgspec.Meta(ge=0.1, le=1.0)] = 0.9
    memory_bytes: Positive = 64 << 20
    fill: bool = False


class DaemonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[daemon]: the process that serves all roots.

    Attributes:
        mountpoint: where the FUSE file system is mounted; short, without "," and ":".
        socket: unix socket of the control API (mode 0600).
        state: directory of what must survive a restart.
        root_mode: how containers get at roots. "native": from the kernel's own file systems,
            the mount is asked only for what is not in the cache; "tree": from the mount alone;
            "auto": native where this machine can, which is tried at start.
        metrics: "host:port" where Prometheus may scrape; empty: only on the socket.
        read_ahead_kib: the kernel's read-ahead on the mount; 0: as suits the way roots are
            served. Boot profiles fit the value that they were recorded with.
        recording: have every content read through the daemon, whatever the cache holds, and
            fetch nothing ahead: slow, for `thinfs profile record`.
        hang_timeout_s: a worker that is silent for so long is killed and replaced; readers wait.
        spare_worker: whether a second worker waits, some 50 MB in memory, to take over at once.
        log_level: DEBUG, INFO, WARNING or ERROR.
    """

    mountpoint: str = msgspec.field(default_factory=lambda: str(_run_home() / "mnt"))
    socket: str = msgspec.field(default_factory=lambda: str(_run_home() / "daemon.sock"))
    state: str = msgspec.field(default_factory=lambda: str(_data_home() / "daemon"))
    root_mode: Literal["auto", "native", "tree"] = "auto"
    metrics: str = ""
    read_ahead_kib: Annotated[int, msgspec.Meta(ge=0)] = 0
    recording: bool = False
    hang_timeout_s: PositiveSeconds = 15.0
    spare_worker: bool = True
    log_level: str = "INFO"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All sections."""

    repository: RepositoryConfig = msgspec.field(default_factory=RepositoryConfig)
    registry: RegistryConfig = msgspec.field(default_factory=RegistryConfig)
    sources: SourcesConfig = msgspec.field(default_factory=SourcesConfig)
    cache: CacheConfig = msgspec.field(default_factory=CacheConfig)
    daemon: DaemonConfig = msgspec.field(default_factory=DaemonConfig)


def default_path() -> Path:
    """Where the configuration is when no one says otherwise."""
    named = os.environ.get("THINFS_CONFIG")
    if named:
        return Path(named)
    if os.geteuid() == 0:
        return SYSTEM_CONFIG
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "thinfs/config.toml"


def load(path: Path | None = None) -> Config:
    """Read the configuration.

    Args:
        path: the file; ``None`` means :func:`default_path`, where a missing file is no error.

    Raises:
        UsageError: the named file is missing or unreadable, or a field is unknown or wrong;
            the message names the field.
    """
    file = path or default_path()
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        if path is None and "THINFS_CONFIG" not in os.environ:
            return Config()
        raise UsageError(f"configuration {file} does not exist") from error
    except OSError as error:
        raise UsageError(f"configuration {file}: {error.strerror}") from error
    try:
        return msgspec.toml.decode(data, type=Config)
    except RecursionError as error:
        raise UsageError(f"configuration {file} is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"configuration {file}: {error}") from error
