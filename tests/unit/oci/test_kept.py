"""Names of a repository's images come and go, and leave a note for whoever collects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from thinfs.errors import FormatError, MissingError
from thinfs.oci.digest import digest_of
from thinfs.oci.kept import (
    forget_removed,
    named_images,
    record_image,
    remove_images,
    removed_images,
)
from thinfs.oci.model import Descriptor, MediaType

if TYPE_CHECKING:
    from pathlib import Path

A, B = "docker.io/library/a:1-thin", "docker.io/library/b:1-thin"


@dataclass(frozen=True)
class Thin:
    """As much of a thin image as a layout looks at."""

    body: bytes

    @property
    def root(self) -> Descriptor:
        return Descriptor(MediaType.OCI_MANIFEST, digest_of(self.body), len(self.body))

    @property
    def blobs(self) -> tuple[tuple[Descriptor, bytes], ...]:
        return ((self.root, self.body),)


def test_a_directory_without_a_layout_holds_no_images(tmp_path: Path) -> None:
    assert named_images(tmp_path) == ()
    assert removed_images(tmp_path) == ()


def test_recorded_images_have_their_names(tmp_path: Path) -> None:
    record_image(tmp_path, Thin(b"a"), A, 1)
    record_image(tmp_path, Thin(b"b"), B, 2)
    found = [(image.name, image.root.digest) for image in named_images(tmp_path)]
    assert found == [(A, digest_of(b"a")), (B, digest_of(b"b"))]
    assert removed_images(tmp_path) == ()


def test_a_removed_image_is_noted(tmp_path: Path) -> None:
    record_image(tmp_path, Thin(b"a"), A, 1)
    remove_images(tmp_path, [A], 77)
    assert named_images(tmp_path) == ()
    [note] = removed_images(tmp_path)
    assert (note.name, note.root, note.removed_at) == (A, Thin(b"a").root, 77)


def test_an_image_that_lost_its_name_to_a_newer_one_is_noted(tmp_path: Path) -> None:
    record_image(tmp_path, Thin(b"old"), A, 1)
    record_image(tmp_path, Thin(b"new"), A, 5)
    [note] = removed_images(tmp_path)
    assert (note.digest, note.removed_at) == (digest_of(b"old"), 5)


def test_recording_the_same_image_again_notes_nothing(tmp_path: Path) -> None:
    record_image(tmp_path, Thin(b"a"), A, 1)
    record_image(tmp_path, Thin(b"a"), A, 2)
    assert removed_images(tmp_path) == ()


def test_the_latest_removal_of_an_image_counts(tmp_path: Path) -> None:
    for moment in (3, 9):
        record_image(tmp_path, Thin(b"a"), A, 1)
        remove_images(tmp_path, [A], moment)
    assert [note.removed_at for note in removed_images(tmp_path)] == [9]


def test_unless_all_names_are_there_none_is_removed(tmp_path: Path) -> None:
    record_image(tmp_path, Thin(b"a"), A, 1)
    with pytest.raises(MissingError, match=f"it has: {A}"):
        remove_images(tmp_path, [A, B], 2)
    assert [image.name for image in named_images(tmp_path)] == [A]


def test_notes_are_forgotten_one_by_one(tmp_path: Path) -> None:
    for name in (A, B):
        record_image(tmp_path, Thin(name.encode()), name, 1)
    remove_images(tmp_path, [A, B], 7)
    forget_removed(tmp_path, lambda image: image.name == A)
    assert [note.name for note in removed_images(tmp_path)] == [B]


def test_a_damaged_list_of_removed_images_is_said(tmp_path: Path) -> None:
    (tmp_path / "removed.json").write_text('[{"name": 1}]')
    with pytest.raises(FormatError, match="delete it"):
        removed_images(tmp_path)
