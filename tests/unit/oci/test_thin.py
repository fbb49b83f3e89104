from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinfs.errors import FormatError
from thinfs.oci.digest import digest_of
from thinfs.oci.layout import write_archive
from thinfs.oci.manifest import Manifest, parse_config, parse_document
from thinfs.oci.model import Image, Platform
from thinfs.oci.recipe import Recipe, RecipeLayer, parse_recipe
from thinfs.oci.thin import ThinImage, build_thin_image, build_thin_index

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = Recipe("1.0", "docker.io/library/x:1@sha256:…", [RecipeLayer("a" * 64, "file:///r")])
CONFIG = (
    b'{"os":"linux", "architecture":"arm64","variant":"v8", "created": "2020-01-01T00:00:00Z",'
    b'"config":{"Env":["A=\\u00e9 b"], "User":"1:2","Entrypoint":["/x"], "Healthcheck":{"Test":[]},'
    b' "Labels":{"k":"v"},"StopSignal":"9"},"history":[{"created_by":"a"},{"created_by":"b"}],'
    b'"rootfs":{"type":"layers","diff_ids":[]}, "x-unknown":{ "number": 1.0e0,'
    b' "big": 12345678901234567890123}}'
)
IMAGE = Image("docker.io/library/x:1", "sha256:" + "b" * 64, Platform("linux", "arm64"), CONFIG, ())


def raw_values(data: bytes) -> dict[str, str]:
    return json.loads(data, parse_float=str, parse_int=str)  # type: ignore[no-any-return] # an object


def test_the_layer_holds_the_recipe_and_nothing_else() -> None:
    thin = build_thin_image(IMAGE, RECIPE)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(thin.layer))) as tar:
        (member,) = tar.getmembers()
        body = tar.extractfile(member)
        assert body is not None
        assert parse_recipe(body.read()) == RECIPE
    assert (member.name, member.mode, member.uid, member.gid, member.mtime) == (
        "thin.json",
        0o444,
        0,
        0,
        0,
    )
    assert member.isreg()


def test_gnu_tar_and_gzip_read_the_layer(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar.gz"
    layer.write_bytes(build_thin_image(IMAGE, RECIPE).layer)
    subprocess.run(["gzip", "--test", layer], check=True)
    done = subprocess.run(["tar", "-tvzf", layer], check=True, capture_output=True, text=True)
    assert done.stdout.split()[0] == "-r--r--r--"
    assert done.stderr == ""


def test_everything_of_the_configuration_but_its_layers_stays_as_it_was() -> None:
    thin = build_thin_image(IMAGE, RECIPE)
    before, after = raw_values(CONFIG), raw_values(thin.config)
    assert list(before) == list(after)
    for key in before.keys() - {"rootfs", "history"}:
        assert before[key] == after[key]
    assert b'{ "number": 1.0e0, "big": 12345678901234567890123}' in thin.config
    assert b'["A=\\u00e9 b"]' in thin.config
    diff_id = digest_of(gzip.decompress(thin.layer))
    assert parse_config(thin.config, "thin").diff_ids == (diff_id,)
    history = json.loads(thin.config)["history"]
    assert history == [
        {
            "created": "2020-01-01T00:00:00Z",
            "created_by": "thinfs convert docker.io/library/x:1",
        }
    ]


def test_the_manifest_names_the_original_and_its_own_blobs() -> None:
    thin = build_thin_image(IMAGE, RECIPE)
    manifest = parse_document(thin.manifest, thin.manifest_descriptor.media_type, "thin")
    assert isinstance(manifest, Manifest)
    assert manifest.config == thin.config_descriptor
    assert manifest.layers == (thin.layer_descriptor,)
    for descriptor, data in thin.blobs:
        assert (descriptor.digest, descriptor.size) == (digest_of(data), len(data))
    assert json.loads(thin.manifest)["annotations"] == {
        "org.opencontainers.image.base.name": "docker.io/library/x:1",
        "org.opencontainers.image.base.digest": "sha256:" + "b" * 64,
        "io.thinfs.recipe.version": "1.0",
    }


def test_the_bytes_are_the_same_on_every_machine_and_for_ever() -> None:
    # a change of this digest makes every thin image that exists differ from a new one
    thin = build_thin_image(IMAGE, RECIPE)
    assert thin.layer_descriptor.digest == (
        "sha256:091e2760bcb7f5743324d960295ea6cda515f1547e95f9dc8d798337199e65e1"
    )
    assert thin.digest == (
        "sha256:1e1103026fcda1d7391934ab001ef7bd6f63152bb477f0c68d9dffd8350e21e7"
    )


@given(st.integers(0, 3000), st.integers(1, 40))
def test_recipes_of_any_length_survive(length: int, layers: int) -> None:
    urls = [RecipeLayer("a" * 64, "file:///" + "é" * length)] * layers
    recipe = Recipe("1.0", "x", urls)
    thin = build_thin_image(IMAGE, recipe)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(thin.layer))) as tar:
        body = tar.extractfile("thin.json")
        assert body is not None
        assert parse_recipe(body.read()) == recipe


def test_an_index_names_one_image_for_each_platform() -> None:
    amd64 = Image(IMAGE.reference, IMAGE.manifest_digest, Platform("linux", "amd64"), CONFIG, ())
    index = build_thin_index([build_thin_image(IMAGE, RECIPE), build_thin_image(amd64, RECIPE)])
    entries = json.loads(index.index)["manifests"]
    assert [entry["platform"]["architecture"] for entry in entries] == ["arm64", "amd64"]
    assert index.blobs[-1] == (index.index_descriptor, index.index)


def test_a_configuration_that_is_no_object_is_refused() -> None:
    image = Image("x/y:1", IMAGE.manifest_digest, IMAGE.platform, b"[]", ())
    with pytest.raises(FormatError, match="x/y:1: configuration is malformed"):
        build_thin_image(image, RECIPE)


def archive_of(thin: ThinImage) -> bytes:
    stream = io.BytesIO()
    write_archive(stream, thin.blobs, thin.root, {"a": "b"})
    return stream.getvalue()


def test_an_archive_is_the_same_every_time() -> None:
    first, second = (archive_of(build_thin_image(IMAGE, RECIPE)) for _ in range(2))
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert {(m.uid, m.gid, m.mtime) for m in tar} == {(0, 0, 0)}
