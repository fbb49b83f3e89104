"""Images in a registry: what a name stands for, manifests by digest, blobs as streams.

Every question goes to the registry's servers in the order of ``hosts.toml`` until one answers;
a server that could not be reached is asked last from then on. What several servers could not
answer is asked again with back-off.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from thinfs.errors import FormatError, IntegrityError, MissingError, ThinfsError, TransportError
from thinfs.http import read_bounded, transport_errors
from thinfs.oci.digest import digest_of, is_digest, verify
from thinfs.oci.hosts import Capability
from thinfs.oci.images import read_images
from thinfs.oci.model import (
    CONFIGS,
    FOREIGN_LAYERS,
    INDEXES,
    MANIFESTS,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Image,
    Platform,
)
from thinfs.oci.transport import (
    BusyError,
    Connection,
    body_chunks,
    check_status,
    is_final,
    retrying,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from thinfs.http import Response
    from thinfs.oci.auth import CredentialStore
    from thinfs.oci.hosts import Host
    from thinfs.oci.reference import Reference

log = logging.getLogger(__name__)

ACCEPT = ", ".join(sorted(INDEXES | MANIFESTS))
DIGEST_HEADER = "Docker-Content-Digest"
MIN_PROGRESS_BYTES = 4 << 20
"""A connection that brought at least this much before it broke does not count as a failure."""

_Answer = TypeVar("_Answer")


class Registry:
    """One repository of a registry, through the servers that answer for it.

    Safe to use from several threads. The caller closes it.

    Args:
        reference: what is asked for.
        hosts: servers, in order.
        store: credentials.
        timeout_s: longest silence of a server.
        attempts: how often a question is asked, and how often a blob's stream may break.
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
        self._reference = reference
        self._path = reference.repository
        self._connections = [Connection(host, store, timeout_s) for host in hosts]
        self._attempts = attempts
        self._lock = threading.Lock()
        self._failed: dict[Connection, int] = {}  # servers to ask last, by when they failed

    def images(self, platforms: Sequence[Platform] | None) -> list[Image]:
        """See :class:`~thinfs.oci.source.ImageSource`."""
        root = self.resolve()
        return read_images(self._reference.canonical, root, self.fetch, platforms)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """See :class:`~thinfs.oci.source.ImageSource`."""
        chunks = self._blob(descriptor)
        try:
            yield chunks
        finally:
            chunks.close()  # type: ignore[attr-defined] # a generator, which closes its connection

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.close()

    def resolve(self) -> Descriptor:
        """What the name stands for now: a manifest or an index.

        Raises:
            MissingError: the registry has no such image.
            DeniedError: it wants (other) credentials.
            TransportError: no server answers.
        """
        digest = self._reference.digest
        if digest:
            return self._ask(Capability.PULL, lambda server: self._look_up(server, digest))
        tag = self._reference.tag or ""
        return self._ask(Capability.RESOLVE, lambda server: self._look_up(server, tag))

    def fetch(self, descriptor: Descriptor) -> bytes:
        """The bytes of a manifest, index or configuration, verified.

        Raises:
            IntegrityError: no server has bytes with this digest, but one has others.
            MissingError: no server has it.
            TransportError: no server answers.
        """
        return self._ask(Capability.PULL, lambda server: self._document(server, descriptor))

    @property
    def _scope(self) -> str:
        return f"repository:{self._path}:pull"

    def _look_up(self, server: Connection, name: str) -> Descriptor:
        """What a tag or digest stands for, by HEAD, which does not count as a pull."""
        address = f"{self._path}/manifests/{name}"
        response = server.open("HEAD", address, scope=self._scope, headers={"Accept": ACCEPT})
        response.close()
        digest = response.headers.get(DIGEST_HEADER, "")
        size = response.headers.get("Content-Length", "")
        if response.status_code != 200 or not is_digest(digest) or not size.isdigit():
            # some registries do not answer HEAD, or without a digest
            return self._look_at(server, address)
        self._check_promises(server, digest)
        return Descriptor(_media_type(response), digest, int(size))

    def _look_at(self, server: Connection, address: str) -> Descriptor:
        """The same by GET."""
        response = server.open("GET", address, scope=self._scope, headers={"Accept": ACCEPT})
        data = self._read(response, self._reference.canonical, MAX_MANIFEST_BYTES)
        digest = digest_of(data)
        self._check_promises(server, digest, response.headers.get(DIGEST_HEADER, ""))
        return Descriptor(_media_type(response), digest, len(data))

    def _check_promises(self, server: Connection, digest: str, said: str = "") -> None:
        for promised in (said, self._reference.digest):
            if promised and promised != digest:
                what = self._reference.canonical
                raise IntegrityError(f"{what}: {server} answers with {digest}, not {promised}")

    def _document(self, server: Connection, descriptor: Descriptor) -> bytes:
        kind = "blobs" if descriptor.media_type in CONFIGS else "manifests"
        address = f"{self._path}/{kind}/{descriptor.digest}"
        headers = {"Accept": descriptor.media_type or ACCEPT}
        response = server.open("GET", address, scope=self._scope, headers=headers)
        what = f"{self._reference.canonical}: {descriptor.digest} from {server}"
        return verify(self._read(response, what, descriptor.size), descriptor.digest, what)

    def _read(self, response: Response, what: str, limit: int) -> bytes:
        check_status(response, what, 200)
        try:
            with transport_errors(what):
                return read_bounded(response, limit)
        finally:
            response.close()

    def _blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        received = failures = 0
        while received < descriptor.size:
            begin = received
            server, response = self._open_rest(descriptor, begin)
            try:
                for chunk in self._rest(descriptor, begin, server, response):
                    received += len(chunk)
                    yield chunk
            except TransportError as error:
                self._ask_last(server)
                failures = 1 if received - begin >= MIN_PROGRESS_BYTES else failures + 1
                if failures >= self._attempts:
                    raise
                log.warning("%s; going on at byte %d", error, received)
            finally:
                response.close()

    def _rest(
        self, descriptor: Descriptor, begin: int, server: Connection, response: Response
    ) -> Iterator[bytes]:
        """The blob from one byte on, over one connection."""
        what = f"{self._reference.canonical}: {descriptor.digest} from {server}"
        for chunk in _skipped(body_chunks(response, what), _skip(response, begin, what)):
            begin += len(chunk)
            if begin > descriptor.size:
                raise IntegrityError(f"{what} is longer than its {descriptor.size} bytes")
            yield chunk
        if begin < descriptor.size:
            raise TransportError(f"{what} ends after {begin} of {descriptor.size} bytes")

    def _open_rest(self, descriptor: Descriptor, begin: int) -> tuple[Connection, Response]:
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        address = f"{self._path}/blobs/{descriptor.digest}"
        what = f"{self._reference.canonical}: {descriptor.digest}"

        def ask(server: Connection) -> tuple[Connection, Response]:
            response = server.open("GET", address, scope=self._scope, headers=headers)
            check_status(response, what, 200, 206)
            return server, response

        try:
            return self._ask(Capability.PULL, ask)
        except MissingError as error:
            if descriptor.media_type in FOREIGN_LAYERS:
                raise MissingError(
                    f"{what} is a layer that its publisher does not let registries "
                    "distribute (Windows base layers are such); it cannot be converted"
                ) from error
            raise

    def _ask(self, capability: Capability, ask: Callable[[Connection], _Answer]) -> _Answer:
        for attempt in retrying(self._attempts):
            with attempt:
                return self._ask_once(capability, ask)
        raise AssertionError  # the last attempt has returned or raised

    def _ask_once(self, capability: Capability, ask: Callable[[Connection], _Answer]) -> _Answer:
        errors: list[tuple[Connection, ThinfsError]] = []
        for server in self._servers(capability):
            try:
                return ask(server)
            except (MissingError, IntegrityError, FormatError, TransportError) as error:
                errors.append((server, error))
                if not is_final(error):
                    self._ask_last(server)
                log.info("%s: %s", server, error)
        if not errors:
            registry = self._reference.registry
            raise MissingError(
                f"no server for {registry} may be asked to {capability}: see hosts.toml"
            )
        raise verdict(errors)

    def _servers(self, capability: Capability) -> list[Connection]:
        able = [each for each in self._connections if capability in each.host.capabilities]
        with self._lock:
            return sorted(able, key=lambda each: self._failed.get(each, 0))

    def _ask_last(self, server: Connection) -> None:
        with self._lock:
            self._failed[server] = 1 + max(self._failed.values(), default=0)


def verdict(errors: Sequence[tuple[Connection, ThinfsError]]) -> ThinfsError:
    """The one error to raise when every server failed.

    A final answer of the registry itself counts more than what its mirrors say; otherwise
    what may be cured by asking again counts more than what may not.
    """
    if len(errors) == 1:
        return errors[0][1]
    for server, error in errors:
        if not server.host.namespace and is_final(error):
            return error
    text = "; ".join(str(error) for _, error in errors)
    passing = [error for _, error in errors if not is_final(error)]
    if passing:
        waits = [e.after_s for e in passing if isinstance(e, BusyError) and e.after_s is not None]
        return BusyError(text, min(waits) if len(waits) == len(passing) else None)
    worst = next((e for _, e in errors if not isinstance(e, MissingError)), errors[-1][1])
    return type(worst)(text)


def _media_type(response: Response) -> str:
    content_type: str = response.headers.get("Content-Type", "")
    return content_type.partition(";")[0].strip()


def _skip(response: Response, begin: int, what: str) -> int:
    """How many bytes of the answer we have already: all before ``begin``, or none."""
    if response.status_code == 200:
        return begin
    content_range = response.headers.get("Content-Range", "")
    if not content_range.startswith(f"bytes {begin}-"):
        raise TransportError(f"{what}: asked for bytes from {begin}, got {content_range[:80]!r}")
    return 0


def _skipped(chunks: Iterator[bytes], skip: int) -> Iterator[bytes]:
    for chunk in chunks:
        if skip < len(chunk):
            yield chunk[skip:] if skip else chunk
        skip = max(0, skip - len(chunk))
