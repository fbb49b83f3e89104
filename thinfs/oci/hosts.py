"""Which servers answer for a registry: containerd's ``hosts.toml`` directories.

For ``redis:4`` with a directory ``/etc/containerd/certs.d`` the first of these that exists is
read: ``…/docker.io/hosts.toml``, ``…/_default/hosts.toml``; a registry with a port also has
``…/host_5000_/``. A directory without ``hosts.toml`` may hold ``*.crt`` (CAs) and
``*.cert`` with ``*.key`` (client certificates), as Docker's do. Rules and field names:
containerd's documentation, "Registry Configuration".
"""

from __future__ import annotations

import enum
import ipaddress
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from thinfs.errors import UsageError
from thinfs.oci.reference import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTS_FILE = "hosts.toml"
DEFAULT_DIRECTORY = "_default"
DOCKER_HUB_HOST = "registry-1.docker.io"
MAX_HOSTS_BYTES = 1 << 20

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, section 5.1

HeaderValues = str | list[str]


class Capability(enum.StrEnum):
    """What a server may be asked for."""

    PULL = "pull"  # blobs and manifests by digest
    RESOLVE = "resolve"  # what a tag stands for
    PUSH = "push"


ALL_CAPABILITIES = frozenset(Capability)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate that a server may ask us for.

    Attributes:
        certificate: PEM file.
        key: PEM file of the key; ``None`` when it is in the certificate's file.
    """

    certificate: Path
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """One server that answers for a registry.

    Attributes:
        url: where its API begins, without a trailing slash: ``https://registry-1.docker.io/v2``.
        capabilities: what it may be asked for.
        ca: PEM files of authorities it may be signed by, beside the system's.
        client: certificates to show.
        skip_verify: accept any certificate.
        headers: sent with every request to it, and to no one else.
        namespace: the registry it stands in for, as it is told; empty for the registry itself.
    """

    url: str
    capabilities: frozenset[Capability] = ALL_CAPABILITIES
    ca: tuple[Path, ...] = ()
    client: tuple[ClientCertificate, ...] = ()
    skip_verify: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    namespace: str = ""

    @property
    def authority(self) -> str:
        """Host and port, as credentials are looked up by."""
        return urlsplit(self.url).netloc


class _HostJson(msgspec.Struct, frozen=True):
    """The fields of one ``[host."…"]`` section; others are containerd's affair."""

    capabilities: list[Capability] | None = None
    ca: str | list[str] | None = None
    client: str | list[str | list[str]] | None = None
    skip_verify: bool = False
    override_path: bool = False
    header: dict[str, HeaderValues] | None = None


class _FileJson(_HostJson, frozen=True):
    server: str = ""
    host: dict[str, _HostJson] | None = None


def hosts_for(registry: str, directories: Sequence[Path]) -> tuple[Host, ...]:
    """The servers to ask for a registry's images, in order; at least one.

    Args:
        registry: as in a :class:`~thinfs.oci.reference.Reference`.
        directories: searched in order; the first that knows the registry decides.

    Raises:
        UsageError: a file is malformed or names a missing certificate.
    """
    for directory in directories:
        for name in (*_directory_names(registry), DEFAULT_DIRECTORY):
            found = directory / name
            if found.is_dir():
                return _read_directory(registry, found)
    return (_own_host(registry),)


def is_loopback(host: str) -> bool:
    """Whether a host name, without port, can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _directory_names(registry: str) -> list[str]:
    host, colon, port = registry.rpartition(":")
    has_port = colon and not registry.endswith("]")
    return [f"{host}_{port}_", registry] if has_port else [registry]


def _own_host(registry: str, section: _HostJson | None = None, base: Path = Path()) -> Host:
    """The registry itself, by containerd's defaults: plain HTTP on loopback, else TLS."""
    if registry == DOCKER_HUB:
        server = f"https://{DOCKER_HUB_HOST}"
    else:
        name = urlsplit(f"//{registry}").hostname or registry
        server = f"{'http' if is_loopback(name) else 'https'}://{registry}"
    return _host(registry, server, section or _HostJson(), base)


def _read_directory(registry: str, directory: Path) -> tuple[Host, ...]:
    file = directory / HOSTS_FILE
    if not file.exists():
        return (_with_certificates(registry, directory),)
    parsed = _read_file(file)
    hosts = [
        _host(registry, url, section, directory) for url, section in (parsed.host or {}).items()
    ]
    if parsed.server:
        hosts.append(_host(registry, parsed.server, parsed, directory))
    else:
        hosts.append(_own_host(registry, parsed, directory))
    return tuple(hosts)


def _read_file(file: Path) -> _FileJson:
    try:
        if file.stat().st_size > MAX_HOSTS_BYTES:
            raise UsageError(f"{file} is larger than {MAX_HOSTS_BYTES} bytes")
        return msgspec.toml.decode(file.read_bytes(), type=_FileJson)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except RecursionError as error:
        raise UsageError(f"{file} is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from error


def _with_certificates(registry: str, directory: Path) -> Host:
    own = _own_host(registry)
    client = [
        ClientCertificate(path, path.with_suffix(".key"))
        for path in sorted(directory.glob("*.cert"))
        if path.with_suffix(".key").exists()
    ]
    return Host(own.url, ca=tuple(sorted(directory.glob("*.crt"))), client=tuple(client))


def _host(registry: str, server: str, section: _HostJson, base: Path) -> Host:
    url = _api_url(server, section.override_path, base)
    capabilities = section.capabilities
    return Host(
        url=url,
        capabilities=ALL_CAPABILITIES if capabilities is None else frozenset(capabilities),
        ca=tuple(_file(base, path) for path in _as_list(section.ca)),
        client=tuple(_client(base, entry) for entry in _as_list(section.client)),
        skip_verify=section.skip_verify,
        headers=_headers(section.header or {}, base),
        namespace=_namespace(registry, urlsplit(url).netloc),
    )


def _api_url(server: str, override_path: bool, base: Path) -> str:
    url = _split(server if "://" in server else f"https://{server}")
    if url is None or "@" in url.netloc:
        raise UsageError(f"{base / HOSTS_FILE}: {server!r} is not an http or https address")
    path = posixpath.normpath(url.path).strip("/.") if url.path else ""
    if not override_path and path.rpartition("/")[2] != "v2":
        path = f"{path}/v2".strip("/")
    return f"{url.scheme}://{url.netloc}/{path}".rstrip("/")


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a bracket without its partner, or a port that is none
        return None
    return parts if good else None


def _namespace(registry: str, authority: str) -> str:
    is_hub = registry == DOCKER_HUB and authority == DOCKER_HUB_HOST
    return "" if is_hub or authority == registry else registry


def _client(base: Path, entry: str | list[str]) -> ClientCertificate:
    if isinstance(entry, str):
        return ClientCertificate(_file(base, entry))
    if len(entry) not in (1, 2):
        raise UsageError(f"{base / HOSTS_FILE}: client {entry!r} is not [certificate, key]")
    paths = [_file(base, path) for path in entry if path]
    return ClientCertificate(*paths)


def _file(base: Path, name: str) -> Path:
    path = base / name
    try:
        found = "\0" not in name and path.is_file()
    except OSError:  # too long, or too many links
        found = False
    if not found:
        raise UsageError(f"{base / HOSTS_FILE} names {str(path)!r}, which does not exist")
    return path


def _headers(header: dict[str, HeaderValues], base: Path) -> tuple[tuple[str, str], ...]:
    lines = tuple((name, value) for name, values in header.items() for value in _as_list(values))
    for name, value in lines:
        if not _FIELD_NAME.match(name) or not value.isprintable():
            raise UsageError(f"{base / HOSTS_FILE}: header {name!r} is none that can be sent")
    return lines


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
