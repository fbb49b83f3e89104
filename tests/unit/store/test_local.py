from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from thinfs.errors import FormatError, MissingError, StoreError
from thinfs.store.boot import BootContent, BootRecord
from thinfs.store.layout import boot_path, catalog_path, layer_path, metadata_path, object_path
from thinfs.store.local import LocalRepository
from thinfs.store.records import LayerRecord, PublishedFile, RootRecord

if TYPE_CHECKING:
    from pathlib import Path

CATALOG = PublishedFile(digest="sha256:" + "1" * 64, size=5, stored_size=4)


def test_a_new_repository_says_what_it_is(tmp_path: Path) -> None:
    LocalRepository.open_or_create(tmp_path / "a" / "repo")
    assert LocalRepository.open(tmp_path / "a" / "repo").path == tmp_path / "a" / "repo"


def test_what_is_no_repository_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="not a thinfs repository"):
        LocalRepository.open(tmp_path)


def test_a_directory_with_other_things_is_not_made_a_repository(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match="choose another directory"):
        LocalRepository.open_or_create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thinfs.json").write_text('{"format": 99}')
    with pytest.raises(FormatError, match="format 99"):
        LocalRepository.open_or_create(tmp_path)


def test_two_converters_work_at_once_and_clean_up(tmp_path: Path) -> None:
    repository = LocalRepository.open_or_create(tmp_path)
    with repository.converting() as first, repository.converting() as second:
        assert first != second
        assert first.is_dir()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_killed_converter_left_is_swept(tmp_path: Path) -> None:
    repository = LocalRepository.open_or_create(tmp_path)
    killed = (
        "import os, sys; from pathlib import Path; from thinfs.store.local import LocalRepository\n"
        "with LocalRepository.open(Path(sys.argv[1])).converting() as work:\n"
        "    (work / 'half').write_bytes(b'x'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", killed, tmp_path], check=False)
    assert [p.name for p in (tmp_path / "tmp").glob("*/*")] == ["half"]
    with repository.converting() as work:
        assert list((tmp_path / "tmp").iterdir()) == [work]


def test_an_empty_object_counts_as_missing_and_is_replaced(tmp_path: Path) -> None:
    repository = LocalRepository.open_or_create(tmp_path)
    digest = hashlib.sha256(b"x").digest()
    target = tmp_path / object_path(digest)
    target.parent.mkdir(parents=True)
    target.touch()
    assert repository.stored_object_size(digest) is None
    with repository.converting() as work:
        assert repository.put_object(digest, b"frame", work) == (5, True)
    assert repository.stored_object_size(digest) == 5


def test_a_catalog_comes_back_as_it_was(tmp_path: Path) -> None:
    repository = LocalRepository.open_or_create(tmp_path)
    body = b"SQLite format 3" + bytes(3_000_000)
    with repository.converting() as work:
        (work / "c").write_bytes(body)
        ref = repository.publish_catalog(work / "c", work)
        assert ref.digest == f"sha256:{hashlib.sha256(body).hexdigest()}"
        assert repository.unpack_catalog(ref, work / "d")
        assert (work / "d").read_bytes() == body


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_catalog_is_noticed(tmp_path: Path, damage: str) -> None:
    repository = LocalRepository.open_or_create(tmp_path)
    with repository.converting() as work:
        (work / "c").write_bytes(os.urandom(10_000))
        ref = repository.publish_catalog(work / "c", work)
        file = tmp_path / catalog_path(bytes.fromhex(ref.digest[7:]))
        data = bytearray(file.read_bytes())
        data[5_000] ^= 1
        if damage == "flip":
            file.write_bytes(data)
        elif damage == "cut":
            file.write_bytes(data[:4_000])
        else:
            file.unlink()
        assert not repository.unpack_catalog(ref, work / "d")


def test_a_root_is_here_only_with_catalog_and_metadata(tmp_path: Path) -> None:
    repository = LocalRepository.open_or_create(tmp_path)
    with repository.converting() as work:
        (work / "c").write_bytes(b"catalog")
        (work / "m").write_bytes(b"metadata")
        catalog = repository.publish_catalog(work / "c", work)
        metadata = repository.publish_metadata(work / "m", work)
    record = RootRecord(
        chain_id="sha256:" + "3" * 64,
        catalog=catalog,
        metadata=metadata,
        content_bytes=1,
        stored_bytes=1,
    )
    assert repository.has_root(record)
    file = tmp_path / metadata_path(bytes.fromhex(metadata.digest[7:]))
    file.write_bytes(file.read_bytes()[:-1])
    assert not repository.has_root(record)
    file.unlink()
    assert not repository.has_root(record)


def test_a_root_whose_boot_record_is_gone_is_not_here(tmp_path: Path) -> None:
    repository = LocalRepository.open_or_create(tmp_path)
    empty = BootRecord(1, BootContent("a" * 64, 1, ()), ())
    with repository.converting() as work:
        (work / "c").write_bytes(b"catalog")
        catalog = repository.publish_catalog(work / "c", work)
        boot = repository.publish_boot(empty, work)
        assert [path.name for path in work.iterdir()] == ["c"]
    chain = "sha256:" + "3" * 64
    record = RootRecord(chain_id=chain, catalog=catalog, content_bytes=1, stored_bytes=1)
    assert repository.has_root(record)
    booting = msgspec.structs.replace(record, boot=boot)
    assert repository.has_root(booting)
    (tmp_path / boot_path(bytes.fromhex(boot.digest[7:]))).unlink()
    assert not repository.has_root(booting)


def test_records_come_back_and_damaged_ones_count_as_missing(tmp_path: Path) -> None:
    repository = LocalRepository.open_or_create(tmp_path)
    digest = bytes(32)
    record = LayerRecord(
        digest="sha256:" + "0" * 64,
        diff_id="sha256:" + "2" * 64,
        size=1,
        tar_size=2,
        catalog=CATALOG,
    )
    assert repository.layer_record(digest) is None
    repository.put_layer_record(digest, record)
    assert repository.layer_record(digest) == record
    (tmp_path / layer_path(digest)).write_text("{")
    assert repository.layer_record(digest) is None
