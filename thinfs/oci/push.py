"""Pushing to a registry: blobs first, each only when it is not there, then what names them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from thinfs.errors import IntegrityError, MissingError
from thinfs.oci.digest import verify
from thinfs.oci.hosts import Capability
from thinfs.oci.model import INDEXES, MANIFESTS, Descriptor
from thinfs.oci.transport import Connection, RefusedError, check_status, retrying

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thinfs.http import Response
    from thinfs.oci.auth import CredentialStore
    from thinfs.oci.hosts import Host
    from thinfs.oci.reference import Reference

log = logging.getLogger(__name__)

DIGEST_HEADER = "Docker-Content-Digest"


class Pusher:
    """Writes into one repository of a registry, through the first server that takes pushes.

    Args:
        reference: where to; its tag is what :meth:`push` sets.
        hosts: servers, in order.
        store: credentials.
        timeout_s: longest silence of the server.
        attempts: how often a request is tried.

    Raises:
        MissingError: none of the servers takes pushes.
    """

    def __init__(
        self,
        reference: Reference,
        hosts: Sequence[Host],
        store: CredentialStore,
        *,
        timeout_s: float,
        attempts: int,
    ) -> None:
        host = next((each for each in hosts if Capability.PUSH in each.capabilities), None)
        if host is None:
            raise MissingError(f"no server for {reference.registry} takes pushes: see hosts.toml")
        self._reference = reference
        self._server = Connection(host, store, timeout_s)
        self._attempts = attempts
        self._path = reference.repository
        self._scope = f"repository:{self._path}:pull,push"

    def close(self) -> None:
        """Close all connections."""
        self._server.close()

    def push(self, blobs: Iterable[tuple[Descriptor, bytes]], root: Descriptor) -> None:
        """Push an image, and let the reference's tag stand for it.

        Args:
            blobs: all of the image, each after those that it names; the root is the last.
            root: its manifest or index.

        Raises:
            IntegrityError: bytes do not have the digest of their descriptor, or the registry
                says that it stored others.
            DeniedError: the registry does not let us.
            TransportError: it does not answer, or refuses.
        """
        for descriptor, data in blobs:
            verify(data, descriptor.digest, f"push to {self._reference.canonical}")
            is_root = descriptor.digest == root.digest
            for attempt in retrying(self._attempts):
                with attempt:
                    self._put(descriptor, data, is_root=is_root)

    def _put(self, descriptor: Descriptor, data: bytes, *, is_root: bool) -> None:
        if descriptor.media_type not in INDEXES | MANIFESTS:
            if not self._has_blob(descriptor):
                self._put_blob(descriptor, data)
            return
        names = [descriptor.digest]
        if is_root and self._reference.tag:
            names = [self._reference.tag]
        for name in names:
            self._put_manifest(descriptor, data, name)

    def _has_blob(self, descriptor: Descriptor) -> bool:
        address = f"{self._path}/blobs/{descriptor.digest}"
        response = self._server.open("HEAD", address, scope=self._scope)
        response.close()
        # any other answer: the upload will say what is wrong
        return response.status_code == 200

    def _put_blob(self, descriptor: Descriptor, data: bytes) -> None:
        what = f"push of {descriptor.digest} to {self._reference.canonical}"
        started = self._server.open(
            "POST", f"{self._path}/blobs/uploads/", scope=self._scope, content=b""
        )
        check_status(started, what, 202)
        started.close()
        response = self._server.open(
            "PUT",
            upload_address(started, descriptor.digest, what),
            scope=self._scope,
            headers={"Content-Type": "application/octet-stream"},
            content=data,
        )
        check_status(response, what, 201, 204)
        self._check_stored(response, descriptor, what)

    def _put_manifest(self, descriptor: Descriptor, data: bytes, name: str) -> None:
        what = f"push of {self._reference.canonical}"
        response = self._server.open(
            "PUT",
            f"{self._path}/manifests/{name}",
            scope=self._scope,
            headers={"Content-Type": descriptor.media_type},
            content=data,
        )
        check_status(response, what, 200, 201, 202)
        self._check_stored(response, descriptor, what)

    def _check_stored(self, response: Response, descriptor: Descriptor, what: str) -> None:
        response.close()
        stored = response.headers.get(DIGEST_HEADER, descriptor.digest)
        if stored != descriptor.digest:
            raise IntegrityError(f"{what}: {self._server} stored {stored}")


def upload_address(started: Response, digest: str, what: str) -> str:
    """Where the answer to ``POST …/uploads/`` says that a blob's bytes go.

    A registry behind a proxy that ends TLS may name itself by ``http``: the scheme that we
    reached it by is the true one.

    Raises:
        RefusedError: it names no place, or one without TLS elsewhere.
    """
    location: str = started.headers.get("Location", "")
    if not location:
        raise RefusedError(f"{what}: the registry names no place for the upload")
    base = urlsplit(str(started.url))
    target = urlsplit(urljoin(str(started.url), location))
    if base.scheme == "https" and target.scheme != "https":
        if target.hostname != base.hostname:
            raise RefusedError(f"{what}: the registry wants the upload sent without TLS")
        target = target._replace(scheme=base.scheme, netloc=base.netloc)
    query = f"{target.query}&" if target.query else ""
    return urlunsplit(target._replace(query=f"{query}digest={digest}"))
