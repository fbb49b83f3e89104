"""Against Debian's docker-registry, with skopeo on the other side."""

from __future__ import annotations

import gzip
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import needs
from tests.support.layouts import make_index, make_layout, put_image, tar_layer
from tests.support.registry import Registry, start_registry
from thinfs.config import RegistryConfig
from thinfs.errors import MissingError, StoreError, ThinfsError
from thinfs.oci import delivery
from thinfs.oci.auth import CredentialStore
from thinfs.oci.digest import digest_of
from thinfs.oci.hosts import Host, hosts_for
from thinfs.oci.model import INDEXES, MANIFESTS, Descriptor
from thinfs.oci.push import Pusher
from thinfs.oci.recipe import Recipe, RecipeLayer
from thinfs.oci.reference import parse_reference
from thinfs.oci.source import open_source
from thinfs.oci.thin import ThinImage, build_thin_image, build_thin_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.containerd import Containerd
    from thinfs.oci.model import Image

LAYERS = [tar_layer({"a": b"1" * 3_000_000}), tar_layer({"b": b"2"})]
RECIPE = Recipe("1.0", "x", [RecipeLayer("a" * 64, "file:///r")])
CONFIG = RegistryConfig(hosts_dirs=[], docker_config="/nonexistent", timeout_s=5, attempts=2)


@pytest.fixture
def registry(folder: Path) -> Iterator[Registry]:
    with start_registry(folder) as running:
        yield running


def skopeo(*args: str) -> str:
    command = [needs.command("skopeo"), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read(text: str, hosts: Any = None) -> tuple[Image, list[bytes]]:
    source = open_source(text, CONFIG, hosts)
    try:
        (image,) = source.images(None)
        bodies = []
        for layer in image.layers:
            with source.open_blob(layer.descriptor) as chunks:
                bodies.append(b"".join(chunks))
            assert digest_of(bodies[-1]) == layer.descriptor.digest
        return image, bodies
    finally:
        source.close()


def push_layout(layout: Path, root: dict[str, Any], name: str) -> None:
    """Push all blobs of a layout, as they are, and let the name stand for its ``root``."""
    blobs = []
    for path in sorted((layout / "blobs/sha256").iterdir()):
        data = path.read_bytes()
        kind = json.loads(data).get("mediaType", "") if data[:1] == b"{" else ""
        blobs.append((Descriptor(kind, f"sha256:{path.name}", len(data)), data))
    # a registry takes nothing that names what it lacks: indexes last, manifests before them
    blobs.sort(key=lambda blob: blob[0].media_type in MANIFESTS)
    blobs.sort(key=lambda blob: blob[0].media_type in INDEXES)
    reference = parse_reference(name)
    store = CredentialStore(layout / "none")
    hosts = hosts_for(reference.registry, [])
    pusher = Pusher(reference, hosts, store, timeout_s=5, attempts=2)
    try:
        pusher.push(blobs, Descriptor(root["mediaType"], root["digest"], root["size"]))
    finally:
        pusher.close()


def thin(layout: Path, architecture: str = "amd64") -> ThinImage:
    config = {"os": "linux", "architecture": architecture}
    make_layout(layout, architecture, LAYERS, config)
    image, _ = read(f"oci:{layout}:{architecture}")
    return build_thin_image(image, RECIPE)


@pytest.mark.parametrize("media", ["oci", "docker"])
@pytest.mark.parametrize("name", ["redis:4", "team/some/redis:4"])
def test_what_skopeo_pushed_is_pulled(
    media: Any, name: str, registry: Registry, tmp_path: Path
) -> None:
    made = make_layout(tmp_path, "4", LAYERS)
    form = "v2s2" if media == "docker" else "oci"
    target = f"docker://{registry.address}/{name}"
    skopeo("copy", "--dest-tls-verify=false", "--format", form, f"oci:{tmp_path}:4", target)
    image, bodies = read(f"{registry.address}/{name}")
    assert [gzip.decompress(body) for body in bodies] == LAYERS
    assert image.chain_id == read(f"oci:{tmp_path}:4")[0].chain_id
    assert (image.manifest_digest == made.digest) == (media == "oci")
    by_digest = f"{registry.address}/{name}".removesuffix(":4") + f"@{image.manifest_digest}"
    assert read(by_digest)[0].layers == image.layers


@pytest.mark.parametrize("media", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_every_kind_of_layer_is_pulled_as_it_was_pushed(
    compression: Any, media: Any, registry: Registry, tmp_path: Path
) -> None:
    made = make_layout(tmp_path, "4", LAYERS, compression=compression, media=media)
    push_layout(tmp_path, made.entry, f"{registry.address}/a:4")
    image, _ = read(f"{registry.address}/a:4")
    assert image.manifest_digest == made.digest
    assert [layer.descriptor.digest for layer in image.layers] == list(made.layers)


@pytest.mark.parametrize("media", ["oci", "docker"])
def test_an_index_of_the_registry_gives_each_platform(
    media: Any, registry: Registry, tmp_path: Path
) -> None:
    entries = [
        put_image(tmp_path, [LAYERS[1]], {"os": "linux", "architecture": arch}, media=media).entry
        for arch in ("amd64", "arm64")
    ]
    index = make_index(tmp_path, "4", entries, media)
    push_layout(tmp_path, index, f"{registry.address}/a:4")
    for name in (f"{registry.address}/a:4", f"{registry.address}/a@{index['digest']}"):
        source = open_source(name, CONFIG)
        platforms = [str(image.platform) for image in source.images(None)]
        source.close()
        assert platforms == ["linux/amd64", "linux/arm64"]
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/a:4")
    assert digest_of(raw.encode()) == index["digest"]


def test_short_names_are_answered_by_a_mirror_that_hosts_toml_names(
    registry: Registry, tmp_path: Path
) -> None:
    made = make_layout(tmp_path / "l", "4", LAYERS)
    target = f"docker://{registry.address}/library/redis:4"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/l:4", target)
    directory = tmp_path / "certs.d/docker.io"
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(f'[host."http://{registry.address}"]')
    config = RegistryConfig(hosts_dirs=[str(directory.parent)], docker_config="/nonexistent")
    source = open_source("redis:4", config)
    (image,) = source.images(None)
    source.close()
    assert image.manifest_digest == made.digest
    assert image.reference == "docker.io/library/redis:4"


def test_a_name_that_is_not_there_is_missing(registry: Registry) -> None:
    with pytest.raises(MissingError, match="nothing:4"):
        read(f"{registry.address}/nothing:4")


def test_a_blob_that_the_registry_lost_is_an_error(registry: Registry, tmp_path: Path) -> None:
    made = make_layout(tmp_path, "4", LAYERS)
    target = f"docker://{registry.address}/a:4"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}:4", target)
    registry.blob(made.layers[0]).unlink()
    with pytest.raises(ThinfsError, match=made.layers[0]):
        read(f"{registry.address}/a:4")


def test_a_thin_image_is_pushed_and_skopeo_pulls_it(registry: Registry, tmp_path: Path) -> None:
    made = thin(tmp_path / "l")
    name = f"{registry.address}/library/redis:4-thin"
    delivery.push(made, parse_reference(name), CONFIG)
    shown = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))
    assert shown["Digest"] == made.digest
    image, bodies = read(name)
    assert image.manifest_digest == made.digest
    assert bodies == [made.layer]
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/copy:x")
    assert read(f"oci:{tmp_path}/copy:x")[0].manifest_digest == made.digest


def test_an_index_of_thin_images_is_pushed_under_one_tag(
    registry: Registry, tmp_path: Path
) -> None:
    index = build_thin_index([thin(tmp_path / "l", arch) for arch in ("amd64", "arm64")])
    name = f"{registry.address}/redis:4-thin"
    delivery.push(index, parse_reference(name), CONFIG)
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    assert raw.encode() == index.index
    skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/c:x")


def test_a_registry_with_users_lets_in_who_has_logged_in(folder: Path, tmp_path: Path) -> None:
    users = tmp_path / "users"
    # bcrypt of "pass-word", cost 4
    users.write_text("me:$2y$04$abcdefghijklmnopqrstuuudBIGi88QUaH8UOst3i3n1jdKYDf0WW\n")
    made = thin(tmp_path / "l")
    with start_registry(folder, htpasswd=users) as registry:
        name = parse_reference(f"{registry.address}/a:1")
        with pytest.raises(ThinfsError, match="docker login"):
            delivery.push(made, name, CONFIG)
        docker = tmp_path / "config.json"
        login = {"username": "me", "password": "pass-word"}
        docker.write_text(json.dumps({"auths": {registry.address: login}}))
        config = RegistryConfig(hosts_dirs=[], docker_config=str(docker))
        delivery.push(made, name, config)
        source = open_source(name.canonical, config)
        assert source.images(None)[0].manifest_digest == made.digest
        source.close()


def test_hosts_may_be_given_by_the_caller(registry: Registry, tmp_path: Path) -> None:
    made = thin(tmp_path / "l")
    hosts = [Host(f"http://{registry.address}/v2", namespace="docker.io")]
    delivery.push(made, parse_reference("redis:4-thin"), CONFIG, lambda _: hosts)
    assert read("redis:4-thin", lambda _: hosts)[0].manifest_digest == made.digest


def test_a_written_layout_gives_the_image_back_by_its_name(tmp_path: Path) -> None:
    made = thin(tmp_path / "l")
    layout = tmp_path / "out"
    delivery.write_layout(made, layout, "docker.io/library/redis:4-thin")
    delivery.write_layout(made, layout, "quay.io/library/redis:4-thin")
    for name in ("docker.io/library/redis:4-thin", "redis:4-thin"):
        image, bodies = read(f"oci:{layout}:{name}")
        assert image.reference == "docker.io/library/redis:4-thin"
        assert bodies == [made.layer]


def test_without_ctr_no_image_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = thin(tmp_path / "l")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="ctr is not installed"):
        delivery.import_into_containerd(made, "a:1", namespace="x", address=tmp_path / "sock")
    assert not delivery.containerd_is_there(tmp_path / "sock")


@pytest.mark.containerd
class TestContainerd:
    NAME = "docker.io/library/redis:4-thin"

    def listed(self, containerd: Containerd) -> dict[str, str]:
        rows = containerd.ctr("images", "list").splitlines()[1:]
        return {row.split()[0]: row.split()[2] for row in rows}

    def put(self, made: Any, containerd: Containerd) -> None:
        delivery.import_into_containerd(
            made, self.NAME, namespace=containerd.namespace, address=containerd.address
        )

    def test_an_image_is_known_by_its_name_and_replaced(
        self, containerd: Containerd, tmp_path: Path
    ) -> None:
        one = thin(tmp_path / "l")
        self.put(one, containerd)
        assert self.listed(containerd) == {self.NAME: one.digest}
        index = build_thin_index([one, thin(tmp_path / "l", "arm64")])
        self.put(index, containerd)
        assert self.listed(containerd) == {self.NAME: index.digest}
        platforms = containerd.ctr("images", "list")
        assert "linux/amd64,linux/arm64" in platforms

    def test_an_image_for_another_platform_only_is_imported_too(
        self, containerd: Containerd, tmp_path: Path
    ) -> None:
        other = thin(tmp_path / "l", "s390x")
        self.put(other, containerd)
        assert self.listed(containerd) == {self.NAME: other.digest}
        assert containerd.ctr("content", "get", other.layer_descriptor.digest)

    def test_a_containerd_that_does_not_answer_is_named(self, tmp_path: Path) -> None:
        made = thin(tmp_path / "l")
        address = tmp_path / "nobody.sock"
        with pytest.raises(StoreError, match=f"{address} did not take {self.NAME}"):
            delivery.import_into_containerd(made, self.NAME, namespace="x", address=address)

    def test_containerd_is_noticed_when_it_is_there(
        self, containerd: Containerd, tmp_path: Path
    ) -> None:
        assert delivery.containerd_is_there(containerd.address)
        assert not delivery.containerd_is_there(tmp_path / "nobody.sock")
        containerd.kill()
        assert not delivery.containerd_is_there(containerd.address)
