"""Images in tar files, as skopeo, docker of old and docker of today write them."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import needs
from tests.support.layouts import DEFAULT_CONFIG, make_layout, tar_layer
from thinfs.config import RegistryConfig
from thinfs.errors import FormatError, MissingError, ThinfsError, UsageError
from thinfs.oci.digest import digest_of, hex_of
from thinfs.oci.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from thinfs.oci.model import Image

LAYERS = [tar_layer({"a": b"1"}), tar_layer({"b": b"2" * 2_000_000})]
DIFF_IDS = [digest_of(layer) for layer in LAYERS]
CONFIG = json.dumps({**DEFAULT_CONFIG, "rootfs": {"type": "layers", "diff_ids": DIFF_IDS}}).encode()


def read(text: str) -> tuple[Image, list[bytes]]:
    """The one image of a name, and its layers; their digests are checked."""
    source = open_source(text, RegistryConfig())
    (image,) = source.images(None)
    bodies = []
    for layer in image.layers:
        with source.open_blob(layer.descriptor) as chunks:
            bodies.append(b"".join(chunks))
        assert digest_of(bodies[-1]) == layer.descriptor.digest
        assert len(bodies[-1]) == layer.descriptor.size
    source.close()
    return image, bodies


def write_tar(path: Path, files: dict[str, bytes | str]) -> Path:
    """A tar of files; a text is the target of a symlink."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def saved(
    paths: list[str], tags: list[str] | None = None, config: str | None = None
) -> dict[str, Any]:
    name = config or f"{hex_of(digest_of(CONFIG))}.json"
    return {"Config": name, "RepoTags": tags or ["redis:4"], "Layers": paths}


def old_docker(path: Path, **changes: Any) -> Path:
    """What docker before 25 saves: a folder a layer, equal layers as symlinks."""
    entry = {**saved(["one/layer.tar", "two/layer.tar"]), **changes}
    files: dict[str, bytes | str] = {
        "one/VERSION": b"1.0",
        "real/layer.tar": LAYERS[0],
        "one/layer.tar": "../real/layer.tar",
        "two/layer.tar": LAYERS[1],
        f"{hex_of(digest_of(CONFIG))}.json": CONFIG,
        "manifest.json": json.dumps([entry]).encode(),
    }
    return write_tar(path, files)


def test_old_docker_save_is_read_with_its_links(tmp_path: Path) -> None:
    image, bodies = read(f"docker-archive:{old_docker(tmp_path / 'x.tar')}")
    assert image.reference == "docker.io/library/redis:4"
    assert bodies == LAYERS
    assert [layer.diff_id for layer in image.layers] == DIFF_IDS
    assert image.config == CONFIG


def test_new_docker_save_is_read_with_compressed_layers_too(tmp_path: Path) -> None:
    packed = gzip.compress(LAYERS[0], mtime=0)
    paths = [f"blobs/sha256/{hex_of(digest_of(data))}" for data in (packed, LAYERS[1])]
    config = f"blobs/sha256/{hex_of(digest_of(CONFIG))}"
    manifest = json.dumps([saved(paths, ["quay.io/a/b:1", "c:2"], config)]).encode()
    files: dict[str, bytes | str] = {
        paths[0]: packed,
        paths[1]: LAYERS[1],
        config: CONFIG,
        "manifest.json": manifest,
    }
    archive = write_tar(tmp_path / "x.tar", files)
    image, bodies = read(f"docker-archive:{archive}")
    assert image.reference == "quay.io/a/b:1"
    assert bodies == [packed, LAYERS[1]]
    assert image.layers[0].descriptor.media_type.endswith("tar+gzip")
    assert read(f"docker-archive:{archive}:c:2")[0].manifest_digest == image.manifest_digest


def test_one_of_several_saved_images_is_named(tmp_path: Path) -> None:
    paths = ["1.tar", "2.tar"]
    manifest = [saved(paths, ["redis:4"]), saved(paths, ["redis:5", "quay.io/x/y:1"])]
    files: dict[str, bytes | str] = {
        "1.tar": LAYERS[0],
        "2.tar": LAYERS[1],
        f"{hex_of(digest_of(CONFIG))}.json": CONFIG,
        "manifest.json": json.dumps(manifest).encode(),
    }
    archive = f"docker-archive:{write_tar(tmp_path / 'x.tar', files)}"
    assert read(f"{archive}:quay.io/x/y:1")[0].reference == "quay.io/x/y:1"
    assert read(f"{archive}:redis:4")[0].reference == "docker.io/library/redis:4"
    with pytest.raises(
        MissingError, match=r"holds 2 images, name one; it has: quay\.io/x/y:1, redis"
    ):
        read(archive)
    with pytest.raises(MissingError, match="no image 'redis:6'"):
        read(f"{archive}:redis:6")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"Layers": ["one/layer.tar"]}, FormatError),
        ({"Layers": ["one/layer.tar", "missing"]}, MissingError),
        ({"Layers": ["one/layer.tar", "../../etc/passwd"]}, MissingError),
        ({"Config": "../etc/passwd"}, MissingError),
        ({"Config": 5}, FormatError),
    ],
)
def test_a_manifest_that_names_what_is_not_there_is_refused(
    changes: dict[str, Any], error: type[ThinfsError], tmp_path: Path
) -> None:
    with pytest.raises(error, match=str(tmp_path)):
        read(f"docker-archive:{old_docker(tmp_path / 'x.tar', **changes)}")


def test_a_configuration_under_a_wrong_name_is_refused(tmp_path: Path) -> None:
    archive = write_tar(
        tmp_path / "x.tar",
        {
            f"{'0' * 64}.json": CONFIG,
            "manifest.json": json.dumps([saved([], config=f"{'0' * 64}.json")]).encode(),
        },
    )
    with pytest.raises(FormatError, match="does not have the digest it is named by"):
        read(f"docker-archive:{archive}")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "x.tar", {"manifest.json": "b", "b": "manifest.json"})
    with pytest.raises(FormatError, match="link to a link without end"):
        read(f"docker-archive:{archive}")


@pytest.mark.parametrize("scheme", ["oci-archive", "docker-archive"])
@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (None, MissingError, "does not exist"),
        (b"", FormatError, "not a proper tar file"),
        (b"x" * 2000, FormatError, "not a proper tar file"),
        (gzip.compress(b"x"), UsageError, "gunzip"),
        (b"\x28\xb5\x2f\xfd12345", UsageError, "zstd -d"),
    ],
)
def test_what_is_no_archive_is_refused(
    scheme: str, content: bytes | None, error: type[ThinfsError], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.tar"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(error, match=said):
        read(f"{scheme}:{file}")


@pytest.mark.parametrize("scheme", ["oci-archive", "docker-archive"])
def test_a_truncated_archive_is_refused(scheme: str, tmp_path: Path) -> None:
    skopeo = needs.command("skopeo")
    make_layout(tmp_path / "l", "4", LAYERS)
    file = tmp_path / "x.tar"
    target = f"{scheme}:{file}:{'redis:4' if scheme == 'docker-archive' else '4'}"
    subprocess.run([skopeo, "copy", "--quiet", f"oci:{tmp_path}/l:4", target], check=True)
    data = file.read_bytes()
    image, _ = read(f"{scheme}:{file}")
    for part in (0.2, 0.5, 0.8):
        file.write_bytes(data[: int(len(data) * part)])
        with pytest.raises((ThinfsError, AssertionError)):
            assert read(f"{scheme}:{file}")[0].layers == ()
    assert len(image.layers) == len(LAYERS)


def test_archives_of_skopeo_hold_the_same_image(tmp_path: Path) -> None:
    skopeo = needs.command("skopeo")
    made = make_layout(tmp_path / "l", "4", LAYERS)
    source = f"oci:{tmp_path}/l:4"
    for target in (f"oci-archive:{tmp_path}/o.tar:4", f"docker-archive:{tmp_path}/d.tar:redis:4"):
        subprocess.run([skopeo, "copy", "--quiet", source, target], check=True)
    oci, _ = read(f"oci-archive:{tmp_path}/o.tar:4")
    assert oci.manifest_digest == made.digest
    assert oci.reference == "localhost/o:4"
    docker, bodies = read(f"docker-archive:{tmp_path}/d.tar:redis:4")
    assert bodies == LAYERS
    assert docker.chain_id == oci.chain_id
