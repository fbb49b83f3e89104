from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.layouts import DEFAULT_CONFIG, make_index, make_layout, put_image, tar_layer
from thinfs.config import RegistryConfig
from thinfs.errors import FormatError, IntegrityError, MissingError
from thinfs.oci.digest import digest_of
from thinfs.oci.images import read_images
from thinfs.oci.model import MAX_INDEX_DEPTH, Descriptor, Image, MediaType, Platform
from thinfs.oci.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

LAYER = tar_layer({"file": b"body"})
AMD64, ARM64 = Platform.parse("amd64"), Platform.parse("arm64")


def config(architecture: str, os: str = "linux") -> dict[str, Any]:
    return {**DEFAULT_CONFIG, "architecture": architecture, "os": os}


def images(layout: Path, tag: str, *platforms: Platform) -> list[Image]:
    source = open_source(f"oci:{layout}:{tag}", RegistryConfig())
    return source.images(platforms or None)


class Blobs:
    """Documents in memory, and what was asked for."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.asked = 0

    def put(self, media_type: str, value: Any) -> Descriptor:
        data = json.dumps(value).encode()
        self.held[digest_of(data)] = data
        return Descriptor(media_type, digest_of(data), len(data))

    def index(self, *entries: Descriptor) -> Descriptor:
        listed = [{"mediaType": e.media_type, "digest": e.digest, "size": e.size} for e in entries]
        return self.put(MediaType.OCI_INDEX, {"schemaVersion": 2, "manifests": listed})

    def fetch(self, descriptor: Descriptor) -> bytes:
        self.asked += 1
        return self.held[descriptor.digest]


def test_each_platform_gets_its_image_in_the_order_asked_for(tmp_path: Path) -> None:
    made = {arch: put_image(tmp_path, [LAYER], config(arch)) for arch in ("amd64", "arm64", "arm")}
    make_index(tmp_path, "1", [image.entry for image in made.values()])
    found = images(tmp_path, "1", ARM64, AMD64, ARM64)
    assert [image.manifest_digest for image in found] == [
        made["arm64"].digest,
        made["amd64"].digest,
    ]
    assert len(images(tmp_path, "1")) == 3


def test_all_platforms_leave_out_attestations_and_other_systems(tmp_path: Path) -> None:
    image = put_image(tmp_path, [LAYER])
    windows = put_image(tmp_path, [LAYER], config("amd64", "windows"))
    attestation = put_image(tmp_path, [], config("unknown", "unknown"))
    marked = {**image.entry, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    make_index(tmp_path, "1", [attestation.entry, windows.entry, marked, image.entry])
    assert [found.platform for found in images(tmp_path, "1")] == [AMD64]


def test_a_platform_that_is_not_there_is_missing_and_the_others_are_listed(tmp_path: Path) -> None:
    make_index(
        tmp_path, "1", [put_image(tmp_path, [LAYER], config(a)).entry for a in ("s390x", "arm")]
    )
    with pytest.raises(
        MissingError, match="no image for linux/amd64, only for linux/arm/v7, linux/s"
    ):
        images(tmp_path, "1", AMD64)


def test_an_image_without_an_index_must_be_for_the_platform_asked_for(tmp_path: Path) -> None:
    make_layout(tmp_path, "1", [LAYER], config("arm64"))
    assert images(tmp_path, "1", ARM64)
    with pytest.raises(MissingError, match="only for linux/arm64"):
        images(tmp_path, "1", AMD64)


def test_entries_without_platform_are_known_by_their_configuration(tmp_path: Path) -> None:
    image = put_image(tmp_path, [LAYER], config("arm64"))
    del image.entry["platform"]
    make_index(tmp_path, "1", [image.entry])
    assert images(tmp_path, "1", ARM64)[0].manifest_digest == image.digest


@pytest.mark.parametrize("media", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_every_kind_of_image_is_read(media: Any, compression: Any, tmp_path: Path) -> None:
    made = make_layout(tmp_path, "1", [LAYER, LAYER], compression=compression, media=media)
    (found,) = images(tmp_path, "1")
    assert [layer.diff_id for layer in found.layers] == list(made.diff_ids)
    assert [layer.descriptor.digest for layer in found.layers] == list(made.layers)
    assert found.config == made.config


def test_indexes_in_indexes_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    blobs = Blobs()
    config = blobs.put(MediaType.OCI_CONFIG, {**DEFAULT_CONFIG, "rootfs": {"type": "layers"}})
    root = blobs.put(
        MediaType.OCI_MANIFEST,
        {
            "schemaVersion": 2,
            "config": {
                "mediaType": config.media_type,
                "digest": config.digest,
                "size": config.size,
            },
            "layers": [],
        },
    )
    for _ in range(MAX_INDEX_DEPTH):
        root = blobs.index(root)
    assert len(read_images("x", root, blobs.fetch, None)) == 1
    with pytest.raises(FormatError, match="nested deeper"):
        read_images("x", blobs.index(root), blobs.fetch, None)


def test_an_index_that_multiplies_is_refused_after_few_requests() -> None:
    blobs = Blobs()
    root = blobs.index()
    for _ in range(MAX_INDEX_DEPTH - 1):
        root = blobs.index(*[root] * 1000)
    with pytest.raises(FormatError, match="more than 1024 manifests"):
        read_images("x", root, blobs.fetch, None)
    assert blobs.asked <= MAX_INDEX_DEPTH


def test_a_document_that_claims_to_be_huge_is_not_asked_for() -> None:
    blobs = Blobs()
    huge = Descriptor(MediaType.OCI_MANIFEST, "sha256:" + "0" * 64, 5 << 20)
    with pytest.raises(FormatError, match="more than 4194304"):
        read_images("x", huge, blobs.fetch, None)
    assert blobs.asked == 0


def test_bytes_with_another_digest_are_refused() -> None:
    blobs = Blobs()
    root = blobs.index()
    blobs.held[root.digest] = b"{}"
    with pytest.raises(IntegrityError, match=f"expected {root.digest}"):
        read_images("x", root, blobs.fetch, None)


def test_other_artifacts_are_no_images(tmp_path: Path) -> None:
    blobs = Blobs()
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": digest_of(b"{}"),
        "size": 2,
    }
    artifact = blobs.put(
        MediaType.OCI_MANIFEST, {"schemaVersion": 2, "config": empty, "layers": [empty]}
    )
    with pytest.raises(FormatError, match="artifact of 'application/vnd"):
        read_images("x", artifact, blobs.fetch, None)
    with pytest.raises(MissingError, match="no image for Linux"):
        read_images("x", blobs.index(artifact), blobs.fetch, None)
