"""Images that share all layers but the last one with another image."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.image_cache import Layout, cached
from tests.support.layouts import blob_path, tag_entry, tar_layer

if TYPE_CHECKING:
    from collections.abc import Mapping


def derived(base: Layout, name: str, files: Mapping[str, bytes]) -> Layout:
    """``base`` with one more layer, kept in the cache of images.

    Args:
        base: an image with one manifest.
        name: of the new one, and its tag.
        files: of the layer, by path without a leading slash.
    """

    def build(layout: Path, _: Path) -> None:
        shutil.copytree(base.directory / "blobs", layout / "blobs")
        index = json.loads((base.directory / "index.json").read_bytes())
        entry = index["manifests"][0]
        manifest = json.loads(blob_path(layout, entry["digest"]).read_bytes())
        config = json.loads(blob_path(layout, manifest["config"]["digest"]).read_bytes())
        layer = tar_layer(files)
        config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
        manifest["layers"].append(
            {**manifest["layers"][-1], **_put(layout, gzip.compress(layer, mtime=0))}
        )
        manifest["config"] |= _put(layout, json.dumps(config).encode())
        tag_entry(layout, name, entry | _put(layout, json.dumps(manifest).encode()))

    return cached(name, (Path(__file__), base.directory / "index.json"), build)


def _put(layout: Path, data: bytes) -> dict[str, Any]:
    """Keep a blob; what a descriptor says of it."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    blob_path(layout, digest).write_bytes(data)
    return {"digest": digest, "size": len(data)}
