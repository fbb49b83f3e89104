"""Names of images in registries: the distribution grammar, and Docker's short forms."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from thinfs.errors import UsageError
from thinfs.oci.digest import hex_of, is_digest

DOCKER_HUB = "docker.io"
THIN_SUFFIX = "-thin"
DEFAULT_TAG = "latest"
MAX_NAME_CHARS = 255
"""Longest registry and repository together (distribution grammar)."""

_MAX_TEXT_CHARS = 4096
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?\Z")
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Reference:
    """One image in one registry.

    Attributes:
        registry: host with optional port: ``docker.io``, ``localhost:5000``, ``[::1]:5000``.
        repository: path in the registry: ``library/redis``.
        tag: ``None`` only when there is a digest.
        digest: of a manifest or index; when given, the tag decides nothing.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def canonical(self) -> str:
        """The full name: ``docker.io/library/redis:4``, with ``@digest`` if there is one."""
        return f"{self.registry}/{self.repository}{self._suffix}"

    @property
    def familiar(self) -> str:
        """The shortest text that means the same: ``redis:4``."""
        names = [self.repository.removeprefix("library/"), self.repository]
        ours = (self.registry, self.repository)
        # "docker.io/localhost/x" is no shorter: "localhost/x" would be read as another registry
        short = next((name for name in names if _split_registry(name) == ours), "/".join(ours))
        return f"{short}{self._suffix}"

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag

    def thin_tag(self) -> str:
        """The tag of the thin image that is made from this one: ``4`` gives ``4-thin``.

        A name with only a digest gives the digest's first 12 digits and ``-thin``.

        Raises:
            UsageError: the result is longer than a tag may be.
        """
        stem = self.tag or hex_of(self.digest or "")[:12]
        tag = f"{stem}{THIN_SUFFIX}"
        if not _TAG.match(tag):
            raise UsageError(
                f"tag {stem!r} is too long for {THIN_SUFFIX!r} behind it: name the output"
            )
        return tag

    def thin(self) -> Reference:
        """The default name of the thin image made from this one."""
        return replace(self, tag=self.thin_tag(), digest=None)


def parse_reference(text: str) -> Reference:
    """Read ``[registry/]repository[:tag][@digest]``, short as Docker's users write it.

    A name without a registry is Docker Hub's, one word is in its ``library``, and without tag
    and digest the tag is ``latest``.

    Raises:
        UsageError: it is no reference; the message says which part is wrong.
    """
    if len(text) > _MAX_TEXT_CHARS:
        raise UsageError(f"image name is {len(text)} characters long")
    if _IDENTIFIER.match(text):
        raise UsageError(f"{text!r} is an image ID, not a name: give repository@sha256:<digest>")
    name, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise UsageError(f"image name {text!r}: {digest!r} is not a digest sha256:<64 hex digits>")
    name, tag = _split_tag(name)
    registry, repository = _split_registry(name)
    _check(text, registry, repository, tag)
    if tag is None and not at:
        tag = DEFAULT_TAG
    return Reference(registry, repository, tag, digest or None)


def _split_tag(name: str) -> tuple[str, str | None]:
    colon = name.rfind(":")
    if colon > name.rfind("/"):
        return name[:colon], name[colon + 1 :]
    return name, None


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_registry = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not is_registry:
        registry, rest = DOCKER_HUB, name
    else:
        registry = DOCKER_HUB if first == "index.docker.io" else first
    if registry == DOCKER_HUB and "/" not in rest:
        rest = f"library/{rest}"
    return registry, rest


def _check(text: str, registry: str, repository: str, tag: str | None) -> None:
    if not _REGISTRY.match(registry):
        raise UsageError(f"image name {text!r}: {registry!r} is not a registry host")
    if not _REPOSITORY.match(repository):
        hint = ": repository names are lower case" if repository != repository.lower() else ""
        raise UsageError(f"image name {text!r}: {repository!r} is not a repository name{hint}")
    if len(registry) + 1 + len(repository) > MAX_NAME_CHARS:
        raise UsageError(f"image name {text!r} is longer than {MAX_NAME_CHARS} characters")
    if tag is not None and not _TAG.match(tag):
        raise UsageError(f"image name {text!r}: {tag!r} is not a tag")
