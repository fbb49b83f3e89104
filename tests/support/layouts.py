"""Tiny images as OCI layouts, written without any code of thinfs, which is checked by them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import zstandard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Compression = Literal["gzip", "zstd", "none"]
Media = Literal["oci", "docker"]

_OCI = "application/vnd.oci.image"
_DOCKER = "application/vnd.docker"
_MANIFEST = {
    "oci": f"{_OCI}.manifest.v1+json",
    "docker": f"{_DOCKER}.distribution.manifest.v2+json",
}
_INDEX = {
    "oci": f"{_OCI}.index.v1+json",
    "docker": f"{_DOCKER}.distribution.manifest.list.v2+json",
}
_CONFIG = {"oci": f"{_OCI}.config.v1+json", "docker": f"{_DOCKER}.container.image.v1+json"}
_LAYER = {
    ("oci", "none"): f"{_OCI}.layer.v1.tar",
    ("oci", "gzip"): f"{_OCI}.layer.v1.tar+gzip",
    ("oci", "zstd"): f"{_OCI}.layer.v1.tar+zstd",
    ("docker", "none"): f"{_DOCKER}.image.rootfs.diff.tar",
    ("docker", "gzip"): f"{_DOCKER}.image.rootfs.diff.tar.gzip",
    ("docker", "zstd"): f"{_DOCKER}.image.rootfs.diff.tar.zstd",
}
DEFAULT_CONFIG: Mapping[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2020-02-02T02:02:02Z",
    "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/true"]},
}


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image that was written.

    Attributes:
        entry: descriptor of its manifest, as it stands in an index.
        layers: digests of the layers as stored, base first.
        diff_ids: digests of the uncompressed layers.
        config: the configuration's bytes.
    """

    entry: dict[str, Any]
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]
    config: bytes

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        digest: str = self.entry["digest"]
        return digest


def make_layout(
    directory: Path,
    tag: str,
    layers: Sequence[bytes],
    config: Mapping[str, Any] | None = None,
    *,
    compression: Compression = "gzip",
    media: Media = "oci",
) -> MadeImage:
    """Write an image into a layout, which is made when there is none, and tag it.

    Args:
        directory: of the layout.
        tag: goes to ``org.opencontainers.image.ref.name``.
        layers: uncompressed tar streams, base first; see :func:`tar_layer`.
        config: configuration without ``rootfs``; amd64 and a command by default.
        compression: how layers are stored.
        media: whose media types manifest, configuration and layers have.
    """
    image = put_image(directory, layers, config, compression=compression, media=media)
    tag_entry(directory, tag, image.entry)
    return image


def make_index(
    directory: Path, tag: str, entries: Sequence[dict[str, Any]], media: Media = "oci"
) -> dict[str, Any]:
    """Write an index of images that are in the layout, and tag it; gives its descriptor."""
    index = {"schemaVersion": 2, "mediaType": _INDEX[media], "manifests": list(entries)}
    entry = _put(directory, _INDEX[media], _json(index))
    tag_entry(directory, tag, entry)
    return entry


def put_image(
    directory: Path,
    layers: Sequence[bytes],
    config: Mapping[str, Any] | None = None,
    *,
    compression: Compression = "gzip",
    media: Media = "oci",
) -> MadeImage:
    """Write an image without a tag; arguments as for :func:`make_layout`."""
    diff_ids = tuple(_digest(layer) for layer in layers)
    values = {**(config or DEFAULT_CONFIG), "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    stored = [
        _put(directory, _LAYER[media, compression], _compress(layer, compression))
        for layer in layers
    ]
    config_bytes = _json(values)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST[media],
        "config": _put(directory, _CONFIG[media], config_bytes),
        "layers": stored,
    }
    entry = _put(directory, _MANIFEST[media], _json(manifest))
    entry["platform"] = {
        name: values[name] for name in ("architecture", "os", "variant") if name in values
    }
    return MadeImage(entry, tuple(each["digest"] for each in stored), diff_ids, config_bytes)


def tag_entry(directory: Path, tag: str, entry: Mapping[str, Any]) -> None:
    """Let a tag of the layout stand for a manifest or index in it."""
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    file = directory / "index.json"
    index: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {"schemaVersion": 2}
    annotations = {"org.opencontainers.image.ref.name": tag}
    index.setdefault("manifests", []).append({**entry, "annotations": annotations})
    file.write_bytes(_json(index))


def tar_layer(files: Mapping[str, bytes]) -> bytes:
    """A tar stream of regular files (mode 0644, root) and, for names that end in ``/``, folders."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def blob_path(directory: Path, digest: str) -> Path:
    """Where a layout keeps a blob."""
    return directory / "blobs" / digest.replace(":", "/")


def _put(directory: Path, media_type: str, data: bytes) -> dict[str, Any]:
    digest = _digest(data)
    path = blob_path(directory, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _compress(data: bytes, compression: Compression) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, mtime=0)
    return zstandard.ZstdCompressor().compress(data) if compression == "zstd" else data


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
