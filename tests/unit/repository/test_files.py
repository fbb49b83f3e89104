"""A published file is right to its last byte, or it is damaged."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thinfs.errors import IntegrityError, MissingError
from thinfs.repository.files import content_size, files_in, unpack

if TYPE_CHECKING:
    from pathlib import Path

BODIES = st.one_of(
    st.binary(max_size=3_000),
    st.integers(0, 400_000).map(bytes),
    st.integers(1, 9).map(lambda n: bytes(range(256)) * n * 150),
)
LEVELS = st.sampled_from([1, 3, 9, 19])


def frame_of(body: bytes, level: int, *, checksum: bool) -> bytes:
    return zstandard.ZstdCompressor(level=level, write_checksum=checksum).compress(body)


def unpacked(file: Path, frame: bytes, body: bytes) -> bytes:
    file.write_bytes(frame)
    target = io.BytesIO()
    unpack(file, len(body), hashlib.sha256(body).digest(), target)
    return target.getvalue()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(BODIES, LEVELS, st.booleans())
def test_every_frame_that_zstd_writes_is_read(
    tmp_path: Path, body: bytes, level: int, checksum: bool
) -> None:
    frame = frame_of(body, level, checksum=checksum)
    assert unpacked(tmp_path / "f", frame, body) == body
    assert content_size(tmp_path / "f", "catalogs") == len(body)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(BODIES, LEVELS, st.booleans(), st.data())
def test_a_frame_that_was_cut_off_or_goes_on_is_damaged(
    tmp_path: Path, body: bytes, level: int, checksum: bool, data: st.DataObject
) -> None:
    frame = frame_of(body, level, checksum=checksum)
    cut = frame[: data.draw(st.integers(0, len(frame) - 1))]
    for damaged in (cut, frame + b"\0", frame + frame):
        with pytest.raises(IntegrityError):
            unpacked(tmp_path / "f", damaged, body)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_no_frame_or_another_one(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(IntegrityError):
        unpacked(tmp_path / "f", data, b"what should be there")


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        unpack(tmp_path / "f", 1, bytes(32))
    with pytest.raises(MissingError):
        content_size(tmp_path / "f", "objects")


def test_a_frame_that_promises_more_than_its_kind_may_have_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(zstandard.compress(bytes((1 << 20) + 1)))
    with pytest.raises(IntegrityError, match="promises 1048577 bytes"):
        content_size(tmp_path / "f", "objects")


def test_files_are_listed_by_name_with_what_their_names_say(tmp_path: Path) -> None:
    good, stray = "ab" * 32, "ab" * 31
    for path in (f"objects/ab/{good}", f"objects/cd/{good}", f"objects/ab/{stray}"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"four")
    (tmp_path / "objects/ab/folder").mkdir()
    (tmp_path / "objects/ab/link").symlink_to("nowhere")
    found = [(each.path, each.digest, each.size) for each in files_in(tmp_path, "objects")]
    assert found == [
        (f"objects/ab/{stray}", None, 4),
        (f"objects/ab/{good}", bytes.fromhex(good), 4),
        (f"objects/cd/{good}", None, 4),
    ]
    assert list(files_in(tmp_path, "catalogs")) == []
