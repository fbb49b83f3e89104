"""The whole converter on real layouts: what it stores, what it shares, what it refuses."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import signal
import stat
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from catalog.erofs import walk
from tests.support.boots import boot_of, booted, root_record
from tests.support.convert_command import convert, thinfs
from tests.support.converted import files_of, recipe_of, root_of
from tests.support.layouts import blob_path, make_index, make_layout, put_image, tar_layer
from tests.support.tarwrite import LayerTar
from tests.support.wait import wait_until
from thinfs.store.layout import boot_path, metadata_path, raw_digest

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.erofs import ImageNode
    from catalog.model import Node
    from tests.support.layouts import Compression, Media

BASE = {
    "etc/": b"",
    "etc/hosts": b"127.0.0.1 localhost\n",
    "bin/sh": random.Random(1).randbytes(400_000),
    "bin/same": random.Random(1).randbytes(400_000),
    "lib/big": random.Random(2).randbytes(2_500_000),
    "empty": b"",
}
TOP = {"etc/hosts": b"changed\n", "app/main.py": b"print('hello')\n"}
MERGED = {k.encode(): v for k, v in {**BASE, **TOP}.items() if not k.endswith("/")}


@pytest.mark.parametrize("media", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_every_packing_gives_the_same_root(
    folder: Path, compression: Compression, media: Media
) -> None:
    make_layout(
        folder / "in", "x", [tar_layer(BASE), tar_layer(TOP)], compression=compression, media=media
    )
    done = convert(folder / "repo", f"oci:{folder}/in:x")
    [image] = done["images"]
    assert files_of(folder / "repo", image["catalog"]) == MERGED
    assert image["deduplicated_bytes"] == 400_000


def test_the_thin_image_names_the_layers_and_the_root(folder: Path) -> None:
    made = make_layout(folder / "in", "x", [tar_layer(BASE), tar_layer(TOP)])
    done = convert(
        folder / "repo", f"oci:{folder}/in:x", "--url", "https://images.example.org/thin/"
    )
    recipe: Any = recipe_of(folder / "repo" / "oci", done["name"])
    assert recipe["version"] == "1.0"
    assert recipe["origin"].endswith(made.digest)
    assert recipe["layers"] == [
        {
            "digest": digest.removeprefix("sha256:"),
            "url": f"https://images.example.org/thin/layers/{digest.removeprefix('sha256:')}",
        }
        for digest in made.layers
    ]
    assert recipe["thinfs"]["repositories"] == ["https://images.example.org/thin"]
    assert recipe["thinfs"]["root"]["catalog"]["digest"] == done["images"][0]["catalog"]


def test_the_metadata_image_shows_the_same_tree_as_the_catalog(folder: Path) -> None:
    make_layout(folder / "in", "x", [tar_layer(BASE), tar_layer(TOP)])
    done = convert(folder / "repo", f"oci:{folder}/in:x")
    recipe: Any = recipe_of(folder / "repo" / "oci", done["name"])
    named = recipe["thinfs"]["root"]["metadata"]
    digest = bytes.fromhex(named["digest"].removeprefix("sha256:"))
    frame = (folder / "repo" / metadata_path(digest)).read_bytes()
    image = zstandard.decompress(frame)
    assert (len(frame), len(image)) == (named["stored_size"], named["size"])
    assert hashlib.sha256(image).digest() == digest
    (folder / "image").write_bytes(image)
    with root_of(folder / "repo", recipe["thinfs"]["root"]["catalog"]["digest"]) as root:
        in_catalog = {(path, *_shape(node)) for path, node in root.walk()}
    assert {(path, *_shape(node)) for path, node in walk(folder / "image")} == in_catalog


def _shape(node: Node | ImageNode) -> tuple[int, int, int]:
    """Mode, links, and bytes; directories take room in an image only."""
    return node.mode, node.nlink, 0 if stat.S_ISDIR(node.mode) else node.size


def test_the_recipe_names_a_boot_record_through_which_the_metadata_image_is_read(
    folder: Path,
) -> None:
    make_layout(folder / "in", "x", [tar_layer(BASE), tar_layer(TOP)])
    done = convert(folder / "repo", f"oci:{folder}/in:x")
    recipe: Any = recipe_of(folder / "repo" / "oci", done["name"])
    named = recipe["thinfs"]["root"]
    boot = boot_of(folder / "repo", named["boot"])
    assert f"sha256:{boot.metadata.digest}" == named["metadata"]["digest"]
    assert len(booted(folder / "repo", boot, boot.metadata)) == named["metadata"]["size"]
    assert (boot.contents, boot.order) == ((), ())


def test_a_root_from_before_boot_records_is_given_one(folder: Path) -> None:
    make_layout(folder / "in", "x", [tar_layer(BASE)])
    first = convert(folder / "repo", f"oci:{folder}/in:x")
    record = root_record(folder / "repo")
    [file] = (folder / "repo" / "roots").iterdir()
    file.write_text(json.dumps({key: record[key] for key in record if key != "boot"}))
    second = convert(folder / "repo", f"oci:{folder}/in:x")
    assert second["digest"] == first["digest"]
    assert root_record(folder / "repo") == record


def test_a_root_whose_boot_record_is_gone_is_made_anew(folder: Path) -> None:
    make_layout(folder / "in", "x", [tar_layer(BASE)])
    convert(folder / "repo", f"oci:{folder}/in:x")
    record = root_record(folder / "repo")
    (folder / "repo" / boot_path(raw_digest(record["boot"]["digest"]))).unlink()
    convert(folder / "repo", f"oci:{folder}/in:x")
    assert root_record(folder / "repo") == record
    boot_of(folder / "repo")


def test_a_tree_that_fits_into_no_metadata_image_converts_without_one(folder: Path) -> None:
    stream = io.BytesIO()
    with LayerTar(stream) as tar:
        tar.add(b"x", data=b"x", xattrs={f"user.{i}": b"v" * 65_000 for i in range(5)})
    make_layout(folder / "in", "x", [stream.getvalue()])
    done = convert(folder / "repo", f"oci:{folder}/in:x")
    recipe: Any = recipe_of(folder / "repo" / "oci", done["name"])
    assert not {"metadata", "boot"} & recipe["thinfs"]["root"].keys()
    assert convert(folder / "repo", f"oci:{folder}/in:x")["digest"] == done["digest"]


def test_a_second_conversion_reads_and_stores_nothing(folder: Path) -> None:
    make_layout(folder / "in", "x", [tar_layer(BASE), tar_layer(TOP)])
    first = convert(folder / "repo", f"oci:{folder}/in:x")
    before = sorted((folder / "repo" / "objects").glob("*/*"))
    second = convert(folder / "repo", f"oci:{folder}/in:x")
    [image] = second["images"]
    assert (image["layers_present"], image["downloaded_bytes"], image["new_bytes"]) == (2, 0, 0)
    assert sorted((folder / "repo" / "objects").glob("*/*")) == before
    assert second["digest"] == first["digest"]


def test_a_layer_that_is_here_is_not_read_again(folder: Path) -> None:
    base = make_layout(folder / "in", "base", [tar_layer(BASE)])
    make_layout(folder / "in", "x", [tar_layer(BASE), tar_layer(TOP)])
    convert(folder / "repo", f"oci:{folder}/in:base")
    blob_path(folder / "in", base.layers[0]).unlink()
    [image] = convert(folder / "repo", f"oci:{folder}/in:x")["images"]
    assert image["layers_present"] == 1
    assert files_of(folder / "repo", image["catalog"]) == MERGED


def test_one_changed_file_in_a_layer_stores_one_new_object(folder: Path) -> None:
    make_layout(folder / "in", "x", [tar_layer(BASE)])
    make_layout(folder / "in", "y", [tar_layer({**BASE, "etc/hosts": b"other\n"})])
    convert(folder / "repo", f"oci:{folder}/in:x")
    [image] = convert(folder / "repo", f"oci:{folder}/in:y")["images"]
    assert image["new_objects"] == 1
    assert image["new_bytes"] < 100


def test_equal_images_give_equal_catalogs_in_any_repository(folder: Path) -> None:
    make_layout(folder / "in", "x", [tar_layer(BASE), tar_layer(TOP)])
    one = convert(folder / "one", f"oci:{folder}/in:x", "--threads", "1")
    two = convert(folder / "two", f"oci:{folder}/in:x", "--threads", "8")
    assert one["images"][0]["catalog"] == two["images"][0]["catalog"]


@pytest.mark.parametrize("lie", ["digest", "diff_id", "size", "cut", "no tar"])
def test_a_layer_that_is_not_what_the_image_says_publishes_nothing(folder: Path, lie: str) -> None:
    layer = tar_layer(TOP)
    made = make_layout(folder / "in", "x", [tar_layer(BASE), layer], compression="none")
    blob = blob_path(folder / "in", made.layers[1])
    if lie == "digest":
        blob.write_bytes(tar_layer({"app/main.py": b"evil\n", **TOP}))
    elif lie == "cut":
        blob.write_bytes(layer[:700])
    elif lie == "no tar":
        made = make_layout(folder / "in", "y", [tar_layer(BASE), b"x" * 5000], compression="none")
    else:
        _forge(folder / "in", made.digest, lie)
    tag = "y" if lie == "no tar" else "x"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "thinfs.cli.main", "convert", "--no-containerd"),
            *("--repo", folder / "repo", f"oci:{folder}/in:{tag}"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in {4, 5}
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) < 400
    assert not list((folder / "repo" / "roots").glob("*"))
    assert not (folder / "repo" / "oci").exists()
    assert len(list((folder / "repo" / "layers").glob("*"))) == 1  # the base was good
    assert list((folder / "repo" / "tmp").iterdir()) == []


def _forge(layout: Path, manifest_digest: str, lie: str) -> None:
    """Let an image's own documents contradict its layer, with digests that fit again."""
    manifest = _document(layout, manifest_digest)
    if lie == "size":
        manifest["layers"][1]["size"] -= 1
    else:
        config = _document(layout, manifest["config"]["digest"])
        config["rootfs"]["diff_ids"][1] = "sha256:" + "0" * 64
        manifest["config"] |= _put(layout, json.dumps(config).encode())
    _tag(layout, manifest)


def _document(layout: Path, digest: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(blob_path(layout, digest).read_bytes())
    return document


def _put(layout: Path, data: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    blob_path(layout, digest).write_bytes(data)
    return {"digest": digest, "size": len(data)}


def _tag(layout: Path, manifest: dict[str, Any]) -> None:
    """Let the layout's only tag stand for another manifest."""
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0] |= _put(layout, json.dumps(manifest).encode())
    (layout / "index.json").write_text(json.dumps(index))


def test_all_platforms_become_an_index_of_thin_images(folder: Path) -> None:
    entries = [
        put_image(folder / "in", [tar_layer({"arch": name.encode()})], _config(name)).entry
        for name in ("amd64", "arm64")
    ]
    make_index(folder / "in", "x", entries)
    done = convert(folder / "repo", f"oci:{folder}/in:x", "--all-platforms")
    assert [image["platform"] for image in done["images"]] == ["linux/amd64", "linux/arm64"]
    for image, name in zip(done["images"], (b"amd64", b"arm64"), strict=True):
        assert files_of(folder / "repo", image["catalog"]) == {b"arch": name}
    index = json.loads(blob_path(folder / "repo" / "oci", done["digest"]).read_bytes())
    assert [m["platform"]["architecture"] for m in index["manifests"]] == ["amd64", "arm64"]


def _config(architecture: str) -> dict[str, Any]:
    return {"architecture": architecture, "os": "linux", "config": {"Cmd": ["/arch"]}}


def test_an_image_of_another_platform_only_is_refused_with_what_there_is(folder: Path) -> None:
    entry = put_image(folder / "in", [tar_layer(TOP)], _config("riscv64")).entry
    make_index(folder / "in", "x", [entry])
    done = thinfs(
        *("convert", "--no-containerd", "--repo", folder / "repo", f"oci:{folder}/in:x"), expect=3
    )
    assert "riscv64" in done.stderr


def big_image(folder: Path) -> None:
    """An image whose conversion takes long enough to be killed in the middle."""
    rng = random.Random(7)
    files = {f"d{i % 50}/f{i}": rng.randbytes(rng.randrange(1, 30_000)) for i in range(4_000)}
    make_layout(
        folder / "in", "x", [tar_layer(files), tar_layer(TOP), tar_layer(BASE)], compression="none"
    )


def start_argv(folder: Path, repository: str) -> list[str]:
    options = ["convert", "--no-containerd", "--json", "--repo", f"{folder}/{repository}"]
    return [sys.executable, "-m", "thinfs.cli.main", *options, f"oci:{folder}/in:x"]


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        start_argv(folder, "repo"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def stored(repository: Path) -> int:
    return sum(1 for _ in (repository / "objects").glob("*/*"))


def test_killed_at_any_moment_the_repository_stays_whole(folder: Path) -> None:
    big_image(folder)
    reference = convert(folder / "reference", f"oci:{folder}/in:x")["images"][0]["catalog"]
    total = stored(folder / "reference")
    for part in range(8):
        process = start(folder)
        goal = total * part // 8
        wait_until(
            lambda p=process, g=goal: p.poll() is not None or stored(folder / "repo") >= g,  # type: ignore[misc]
            "some objects to be there",
        )
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert_whole(folder / "repo")
    [image] = convert(folder / "repo", f"oci:{folder}/in:x")["images"]
    assert image["catalog"] == reference
    files_of(folder / "repo", image["catalog"])
    assert list((folder / "repo" / "tmp").iterdir()) == []


def assert_whole(repository: Path) -> None:
    """Whatever has a name is complete: objects, and the catalogs that records promise."""
    for path in (repository / "objects").glob("*/*"):
        assert hashlib.sha256(zstandard.decompress(path.read_bytes())).hexdigest() == path.name
    for kind in ("layers", "roots"):
        for path in (repository / kind).glob("[!.]*"):
            files_of(repository, json.loads(path.read_bytes())["catalog"]["digest"])


def test_ctrl_c_leaves_nothing_half_done(folder: Path) -> None:
    big_image(folder)
    process = start(folder)
    wait_until(lambda: stored(folder / "repo") >= 3, "some objects to be there")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert list((folder / "repo" / "tmp").iterdir()) == []
    assert_whole(folder / "repo")


def test_two_converters_share_one_repository(folder: Path) -> None:
    big_image(folder)
    both = [start(folder), start(folder)]
    outputs = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    catalogs = {output["images"][0]["catalog"] for output in outputs}
    assert [process.returncode for process in both] == [0, 0]
    for catalog in catalogs:
        assert len(files_of(folder / "repo", catalog)) == 4_000 + len(MERGED)


def test_a_full_disk_is_reported_and_the_next_try_goes_on(folder: Path) -> None:
    big_image(folder)
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", disk], check=True)
    try:
        done = thinfs(
            *("convert", "--no-containerd", "--repo", disk / "repo", f"oci:{folder}/in:x"), expect=7
        )
        assert re.search("No space left on device|disk is full", done.stderr)
        assert "Traceback" not in done.stderr
        assert not list((disk / "repo" / "layers").glob("*"))
        subprocess.run(["mount", "-o", "remount,size=300m", disk], check=True)
        [image] = convert(disk / "repo", f"oci:{folder}/in:x")["images"]
        assert image["deduplicated_bytes"] > 10_000_000
        files_of(disk / "repo", image["catalog"])
    finally:
        subprocess.run(["umount", disk], check=True)


def test_memory_does_not_grow_with_the_layer(folder: Path) -> None:
    make_layout(folder / "in", "x", [b""], compression="zstd")
    _one_file_of(folder / "in", size=1 << 30)
    # a child's peak counts from what its parent had when it was forked: a small one starts it
    starter = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = start_argv(folder, "repo")
    done = subprocess.run(
        [sys.executable, "-c", starter, *command], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 250_000  # KiB


def _one_file_of(layout: Path, size: int) -> None:
    """Give the layout's image one layer with one file of ``size`` bytes."""
    header = tarfile.TarInfo("big")
    header.size = size
    block = random.Random(3).randbytes(1 << 20)
    diff, path = hashlib.sha256(), layout / "layer"
    with path.open("wb") as sink, zstandard.ZstdCompressor(1).stream_writer(sink) as writer:
        for piece in [header.tobuf(), *[block] * (size >> 20), bytes(1024)]:
            diff.update(piece)
            writer.write(piece)
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    [entry] = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = _document(layout, entry["digest"])
    config = _document(layout, manifest["config"]["digest"])
    config["rootfs"]["diff_ids"] = [f"sha256:{diff.hexdigest()}"]
    manifest["config"] |= _put(layout, json.dumps(config).encode())
    manifest["layers"][0] |= {"digest": digest, "size": path.stat().st_size}
    path.rename(blob_path(layout, digest))
    _tag(layout, manifest)
