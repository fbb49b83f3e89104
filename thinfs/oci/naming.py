"""What a user may write for an image: a registry's, a layout's, or an archive's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thinfs.errors import UsageError
from thinfs.oci.reference import DEFAULT_TAG, Reference, parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMES = ("oci", "oci-archive", "docker-archive")
LOCAL_REGISTRY = "localhost"
"""Registry part of the names of images that only a file or directory had."""

_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class LayoutName:
    """An image in a directory or a tar file.

    Attributes:
        scheme: one of ``SCHEMES``.
        path: the directory or file.
        tag: which image in it; ``None`` means the only one.
    """

    scheme: str
    path: Path
    tag: str | None

    def image_name(self, stored: str | None) -> str:
        """The canonical name of the image.

        Args:
            stored: what the layout or archive itself calls it: a full name, or just a tag.

        A full name is taken as it is; otherwise the file's own name stands for the
        repository: ``oci:/srv/My_App.tar:4`` gives ``localhost/my-app:4``.
        """
        full = full_name(stored) or full_name(self.tag)
        if full:
            return full
        stem = self.path.absolute().name.lower().removesuffix(".tar")
        repository = _NOT_IN_NAMES.sub("-", stem).strip("-") or "image"
        tag = _NOT_IN_TAGS.sub("-", self.tag or stored or DEFAULT_TAG).strip("-.")[:120]
        return f"{LOCAL_REGISTRY}/{repository}:{tag or DEFAULT_TAG}"


def parse_name(text: str, exists: Callable[[Path], bool]) -> Reference | LayoutName:
    """Read what a user gives for an image.

    Args:
        text: ``oci:DIR[:TAG]``, ``oci-archive:FILE[:TAG]``, ``docker-archive:FILE[:REF]`` or
            a registry reference.
        exists: whether a path exists; decides where a path with colons ends.

    Raises:
        UsageError: it is none of these.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in SCHEMES:
        return parse_reference(text)
    path, tag = _split_path(rest, exists)
    if not path:
        raise UsageError(f"{text!r} names no path: write {scheme}:PATH[:TAG]")
    return LayoutName(scheme, Path(path), tag or None)


def _split_path(rest: str, exists: Callable[[Path], bool]) -> tuple[str, str]:
    if exists(Path(rest)):
        return rest, ""
    colons = [at for at, char in enumerate(rest) if char == ":"]
    for at in reversed(colons):
        if exists(Path(rest[:at])):
            return rest[:at], rest[at + 1 :]
    path, _, tag = rest.partition(":")
    return path, tag


def full_name(text: str | None) -> str | None:
    """``text`` in canonical form if it is a name with a repository, not just a tag."""
    if not text or not ("/" in text or ":" in text):
        return None
    try:
        return parse_reference(text).canonical
    except UsageError:
        return None
