"""The three places a thin image can go: a registry, an OCI layout, the local containerd."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Protocol

from thinfs.errors import MissingError, StoreError
from thinfs.oci.hosts import hosts_for
from thinfs.oci.layout import IMAGE_NAME, REF_NAME, LayoutWriter, write_archive
from thinfs.oci.naming import full_name
from thinfs.oci.push import Pusher
from thinfs.oci.reference import parse_reference
from thinfs.oci.source import credentials

if TYPE_CHECKING:
    from thinfs.config import RegistryConfig
    from thinfs.oci.model import Descriptor
    from thinfs.oci.reference import Reference
    from thinfs.oci.source import HostFinder

CONNECT_TIMEOUT_S = 3.0
"""Longest containerd may take to accept a connection; it is on this machine."""

IMPORT_TIMEOUT_S = 120.0
"""Longest an import may take; it moves some kilobytes."""

CTR = "ctr"


class Deliverable(Protocol):
    """A thin image, or several under one index: whatever its blobs come from."""

    @property
    def root(self) -> Descriptor:
        """What a name for it stands for."""
        ...

    @property
    def blobs(self) -> tuple[tuple[Descriptor, bytes], ...]:
        """All blobs, each after those that it names."""
        ...


def push(
    thin: Deliverable,
    reference: Reference,
    config: RegistryConfig,
    hosts: HostFinder | None = None,
) -> None:
    """Push to a registry.

    Args:
        thin: what to push.
        reference: where to, with the tag to set.
        config: the ``[registry]`` section.
        hosts: servers of a registry; ``None`` means what ``config.hosts_dirs`` say.

    Raises:
        DeniedError: the registry does not let us.
        TransportError: it does not answer, or refuses.
        IntegrityError: it stored other bytes.
        UsageError: a file of the configuration is malformed.
    """
    directories = [Path(each) for each in config.hosts_dirs]
    found = hosts(reference.registry) if hosts else hosts_for(reference.registry, directories)
    pusher = Pusher(
        reference, found, credentials(config), timeout_s=config.timeout_s, attempts=config.attempts
    )
    try:
        pusher.push(thin.blobs, thin.root)
    finally:
        pusher.close()


def write_layout(thin: Deliverable, directory: Path, tag: str) -> None:
    """Write into an OCI image layout, which is made when there is none.

    Args:
        thin: what to write.
        directory: of the layout.
        tag: a tag, or a full name when the layout holds images of several repositories.

    Raises:
        StoreError: the directory cannot be written.
        FormatError: there is something else in its place.
    """
    with LayoutWriter(directory) as layout:
        for descriptor, data in thin.blobs:
            layout.put(descriptor, data)
        layout.tag(thin.root, tag, full_name(tag))


def import_into_containerd(thin: Deliverable, name: str, *, namespace: str, address: Path) -> None:
    """Make the image known to a containerd on this machine, without unpacking it.

    Args:
        thin: what to import, for all its platforms.
        name: full name: ``docker.io/library/redis:4-thin``; an image of that name is replaced.
        namespace: containerd's namespace.
        address: containerd's socket.

    Raises:
        MissingError: ``ctr`` is not installed.
        StoreError: containerd does not take it.
    """
    reference = parse_reference(name)
    annotations = {REF_NAME: reference.tag or "latest", IMAGE_NAME: reference.canonical}
    command = [CTR, "--address", str(address), "--namespace", namespace]
    command += [
        "--connect-timeout",
        f"{CONNECT_TIMEOUT_S:g}s",
        "images",
        "import",
        "--no-unpack",
        "--all-platforms",
        "-",
    ]
    with TemporaryFile() as archive:
        write_archive(archive, thin.blobs, thin.root, annotations)
        archive.seek(0)
        try:
            done = subprocess.run(
                command, stdin=archive, capture_output=True, timeout=IMPORT_TIMEOUT_S, check=False
            )
        except FileNotFoundError as error:
            raise MissingError(f"{CTR} is not installed; it comes with containerd") from error
        except subprocess.TimeoutExpired as error:
            raise StoreError(f"containerd at {address} did not answer") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise StoreError(f"containerd at {address} did not take {name}: {''.join(reason)}")


def containerd_is_there(address: Path) -> bool:
    """Whether images can be imported: someone listens at the socket, and there is ``ctr``."""
    if shutil.which(CTR) is None:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_TIMEOUT_S)
        try:
            connection.connect(str(address))
        except OSError:
            return False
    return True
