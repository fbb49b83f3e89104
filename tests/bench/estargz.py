"""eStargz images of the images that are measured, made by stargz-snapshotter's own converter.

*Plain* ones can be mounted lazily. *Optimised* ones were made while the workload ran once: what it
touched lies at the front of each layer and is prefetched when the layer is mounted. Both are kept
in the cache of images. ``ctr-remote``, Debian's stargz-snapshotter, does all of that.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import image_cache, sweep
from tests.support.containerd import Containerd
from tests.support.image_cache import Layout, cached
from tests.support.layouts import blob_path, make_layout
from tests.support.unpack import import_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.workloads import Workload

SERVICE = image_cache.CACHE.parent / "bin/stargz-grpc"
"""Built by ``.ci/stargz``."""

CONVERT_TIMEOUT_S = 3_600
_SOURCES = (Path(__file__),)


def installed() -> bool:
    """Whether there is what makes eStargz images and what mounts them."""
    return SERVICE.exists() and shutil.which("ctr-remote") is not None


def plain(work: Workload) -> Layout:
    """The workload's image as eStargz; takes minutes when it is not in the cache."""
    return _converted(work, "estargz", ("--no-optimize",))


def optimised(work: Workload) -> Layout:
    """The same, ordered by what the workload touches when it runs."""
    period = 600 if work.settled_s is None else work.settled_s
    options = [f"--period={period}", "--net-host"]
    if work.command:
        options.append(f"--args={json.dumps(work.command)}")
    return _converted(work, "optimised", options)


def _converted(work: Workload, kind: str, options: Sequence[str]) -> Layout:
    source = work.image()
    name = f"{kind}-{work.name}"

    def build(layout: Path, folder: Path) -> None:
        parents = Layout(folder / "with-parents", work.name)
        _add_parents(source, parents.directory)
        _convert(parents, layout, name, options)

    return cached(name, (*_SOURCES, source.directory / "index.json"), build)


def _convert(source: Layout, target: Path, tag: str, options: Sequence[str]) -> None:
    folder = sweep.make_folder("estargz")
    try:
        with Containerd(folder / "c") as containerd:
            name = import_image(containerd, source, "overlayfs")
            remote = ["ctr-remote", *containerd.ctr_argv()[1:]]
            _run(*remote, "images", "optimize", "--oci", *options, name, f"docker.io/{tag}:made")
            archive = folder / "made.tar"
            containerd.ctr("images", "export", archive, f"docker.io/{tag}:made")
            copy = ("skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests")
            _run(*copy, f"oci-archive:{archive}", f"oci:{target}:{tag}")
    finally:
        sweep.sweep_folder(folder)


def _add_parents(source: Layout, target: Path) -> None:
    """Write the image with each layer naming the folders that its files are in.

    The converter refuses to order a layer that leaves them out, as our images' do.
    """
    index = json.loads((source.directory / "index.json").read_bytes())
    manifest = _read_json(source, index["manifests"][0]["digest"])
    known: dict[str, tarfile.TarInfo] = {}
    layers = [
        _with_parents(blob_path(source.directory, layer["digest"]), known)
        for layer in manifest["layers"]
    ]
    config = _read_json(source, manifest["config"]["digest"])
    make_layout(target, source.tag, layers, config, compression="none")


def _with_parents(layer: Path, known: dict[str, tarfile.TarInfo]) -> bytes:
    """A layer's tar stream; folders that it does not have are as in those below, in ``known``."""
    stream = io.BytesIO()
    had: set[str] = set()
    with (
        tarfile.open(layer, errors="surrogateescape") as old,
        tarfile.open(
            fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
        ) as new,
    ):
        for entry in old:
            for parent in _parents(entry.name):
                if parent not in had:
                    new.addfile(known.get(parent) or _folder(parent))
                    had.add(parent)
            if entry.isdir():
                known[entry.name] = entry
                had.add(entry.name)
            new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
    return stream.getvalue()


def _parents(name: str) -> list[str]:
    """``a`` and ``a/b`` for ``a/b/c``."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


def _read_json(layout: Layout, digest: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(blob_path(layout.directory, digest).read_bytes())
    return value


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=CONVERT_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr[-1000:]}")
