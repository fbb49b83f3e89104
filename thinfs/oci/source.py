"""Where images come from: one seam for registries, layouts and archives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from thinfs.oci.archive import DockerArchive, OciArchive
from thinfs.oci.auth import CredentialStore, default_docker_config
from thinfs.oci.hosts import hosts_for
from thinfs.oci.layout import LayoutSource
from thinfs.oci.naming import LayoutName, parse_name
from thinfs.oci.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from thinfs.config import RegistryConfig
    from thinfs.oci.hosts import Host
    from thinfs.oci.model import Descriptor, Image, Platform
    from thinfs.oci.reference import Reference

    HostFinder = Callable[[str], Sequence[Host]]
    """Gives the servers to ask for a registry, in order."""


class ImageSource(Protocol):
    """Gives the images that one name stands for, and their blobs. Threads may share it."""

    def images(self, platforms: Sequence[Platform] | None) -> list[Image]:
        """The images for some platforms, each once, in this order.

        Manifests and configurations have been verified.

        Args:
            platforms: ``None`` means every Linux platform the name has.

        Raises:
            MissingError: there is no such name, or not for this platform.
            FormatError: what it names is not an image that thinfs reads.
            IntegrityError: a document does not have the digest it is named by.
            TransportError: no server answers.
        """

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a layer as it is stored, in chunks of at most 1 MiB, in order.

        Nothing is verified: the caller hashes what it gets and compares it with the digest.
        Errors may also come while the iterator runs; leaving the block early is fine.

        Raises:
            MissingError: the source does not have it.
            IntegrityError: it is longer than the descriptor says.
            TransportError: it cannot be read to its end.
        """

    def close(self) -> None:
        """Release connections and files."""


def open_source(text: str, config: RegistryConfig, hosts: HostFinder | None = None) -> ImageSource:
    """Open what a user names; the caller closes it.

    Args:
        text: a registry reference, ``oci:DIR[:TAG]``, ``oci-archive:FILE[:TAG]`` or
            ``docker-archive:FILE[:REF]``.
        config: the ``[registry]`` section.
        hosts: servers of a registry; ``None`` means what ``config.hosts_dirs`` say.

    Raises:
        UsageError: the name or a file of the configuration is malformed.
        MissingError: a named file does not exist.
    """
    name = parse_name(text, Path.exists)
    if not isinstance(name, LayoutName):
        return open_registry(name, config, hosts)
    if name.scheme == "oci":
        return LayoutSource(name)
    return OciArchive(name) if name.scheme == "oci-archive" else DockerArchive(name)


def open_registry(
    reference: Reference, config: RegistryConfig, hosts: HostFinder | None = None
) -> Registry:
    """A registry as the configuration says it is reached; the caller closes it.

    Raises:
        UsageError: a file of the configuration is malformed.
    """
    directories = [Path(each) for each in config.hosts_dirs]
    found = hosts(reference.registry) if hosts else hosts_for(reference.registry, directories)
    return Registry(
        reference, found, credentials(config), timeout_s=config.timeout_s, attempts=config.attempts
    )


def credentials(config: RegistryConfig) -> CredentialStore:
    """The credentials that the configuration names."""
    named = config.docker_config
    return CredentialStore(Path(named) if named else default_docker_config())
