from __future__ import annotations

import json
from typing import Any

import pytest

from thinfs.errors import FormatError
from thinfs.oci.manifest import Index, Manifest, pair_layers, parse_config, parse_document
from thinfs.oci.model import MediaType, Platform
from thinfs.oci.recipe import MAX_LAYERS

DIGEST = "sha256:" + "a" * 64


def entry(media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 3, **more}


def manifest(**changes: Any) -> bytes:
    values: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MediaType.OCI_MANIFEST,
        "config": entry(MediaType.OCI_CONFIG),
        "layers": [entry(MediaType.OCI_LAYER_GZIP)],
    }
    return json.dumps({**values, **changes}).encode()


def test_a_manifest_gives_its_config_and_layers() -> None:
    found = parse_document(manifest(), MediaType.OCI_MANIFEST, "x")
    assert isinstance(found, Manifest)
    assert found.is_image
    assert [layer.digest for layer in found.layers] == [DIGEST]


def test_a_document_without_media_type_is_what_it_looks_like() -> None:
    index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    assert isinstance(parse_document(index, "", "x"), Index)
    assert isinstance(parse_document(manifest(mediaType=None), "", "x"), Manifest)


def test_platforms_of_an_index_are_in_normal_form() -> None:
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1"}
    index = {"schemaVersion": 2, "manifests": [entry(MediaType.OCI_MANIFEST, platform=platform)]}
    found = parse_document(json.dumps(index).encode(), MediaType.DOCKER_INDEX, "x")
    assert isinstance(found, Index)
    assert found.manifests[0].platform == Platform("linux", "arm64")


@pytest.mark.parametrize(
    ("data", "media_type", "said"),
    [
        (b"", MediaType.OCI_MANIFEST, "malformed"),
        (b"[]", MediaType.OCI_MANIFEST, "malformed"),
        (b"\xff", MediaType.OCI_MANIFEST, "malformed"),
        (b"[" * 100_000, MediaType.OCI_MANIFEST, "malformed"),
        (b"{}", MediaType.OCI_MANIFEST, "not a proper image manifest"),
        (b"{}", MediaType.OCI_INDEX, "not a proper image index"),
        (manifest(), MediaType.OCI_INDEX, "says it is"),
        (manifest(mediaType=None), MediaType.OCI_INDEX, "not a proper image index"),
        (manifest(manifests=[entry(MediaType.OCI_MANIFEST)]), "", "not a proper image manifest"),
        (manifest(mediaType="text/html"), "", "which is no image"),
        (manifest(schemaVersion=1), "", "schema 1"),
        (b'{"schemaVersion": 1, "fsLayers": [], "name": "x"}', "", "schema 1"),
        (manifest(), MediaType.DOCKER_SCHEMA1_SIGNED, "schema 1"),
        (manifest(config={**entry("x"), "digest": "sha256:../../etc"}), "", "not a digest"),
        (manifest(config={**entry("x"), "size": -1}), "", "malformed"),
        (manifest(layers=[{**entry("x"), "size": 1 << 50}]), "", "malformed"),
        (manifest(layers=[entry("x")] * (MAX_LAYERS + 1)), "", "malformed"),
    ],
)
def test_documents_that_must_be_refused(data: bytes, media_type: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        parse_document(data, media_type, "image x")


def config(**changes: Any) -> bytes:
    values: dict[str, Any] = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    }
    return json.dumps({**values, **changes}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        config(rootfs={"type": "tree"}),
        config(rootfs={"type": "layers", "diff_ids": ["sha256:x"]}),
        config(rootfs={"type": "layers", "diff_ids": "x"}),
    ],
)
def test_configurations_that_must_be_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_config(data, "x")


def test_layers_and_diff_ids_must_be_as_many() -> None:
    found = parse_document(manifest(layers=[]), "", "x")
    assert isinstance(found, Manifest)
    with pytest.raises(FormatError, match="0 layers, its configuration 1"):
        pair_layers(found, parse_config(config(), "x"), "x")


def test_a_layer_of_an_unknown_type_is_refused() -> None:
    found = parse_document(manifest(layers=[entry("application/wasm")]), "", "x")
    assert isinstance(found, Manifest)
    with pytest.raises(FormatError, match="application/wasm"):
        pair_layers(found, parse_config(config(), "x"), "x")
