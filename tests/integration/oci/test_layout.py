from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import needs
from tests.support.layouts import make_layout, tag_entry, tar_layer
from thinfs.config import RegistryConfig
from thinfs.errors import FormatError, IntegrityError, MissingError, StoreError
from thinfs.oci.digest import digest_of
from thinfs.oci.layout import IMAGE_NAME, LayoutWriter
from thinfs.oci.model import Descriptor, MediaType
from thinfs.oci.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

LAYER = tar_layer({"a": b"1"})
INDEX = b'{"schemaVersion":2,"manifests":[]}'
ROOT = Descriptor(MediaType.OCI_INDEX, digest_of(INDEX), len(INDEX))

# writes tags for ever; its parent kills it
_WRITER = """
import itertools, sys
from pathlib import Path
from thinfs.oci.digest import digest_of
from thinfs.oci.layout import LayoutWriter
from thinfs.oci.model import Descriptor, MediaType
for number in itertools.count():
    data = b'{"schemaVersion":2,"manifests":[]}' + b" " * number
    root = Descriptor(MediaType.OCI_INDEX, digest_of(data), len(data))
    with LayoutWriter(Path(sys.argv[1])) as layout:
        layout.put(root, data)
        layout.tag(root, f"tag-{number % 50}")
    print(number, flush=True)
"""


def reference(text: str) -> str:
    source = open_source(text, RegistryConfig())
    try:
        return source.images(None)[0].reference
    finally:
        source.close()


def entries(directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((directory / "index.json").read_bytes())["manifests"]
    return found


def test_the_only_image_needs_no_tag_and_several_do(tmp_path: Path) -> None:
    layout = tmp_path / "My_Images"
    make_layout(layout, "4", [LAYER])
    assert reference(f"oci:{layout}") == "localhost/my-images:4"
    make_layout(layout, "5", [LAYER, LAYER])
    assert reference(f"oci:{layout}:5") == "localhost/my-images:5"
    with pytest.raises(MissingError, match="several images, name one of: 4, 5"):
        reference(f"oci:{layout}")
    with pytest.raises(MissingError, match="no image '6'; it has: 4, 5"):
        reference(f"oci:{layout}:6")


def test_a_path_with_colons_is_found_as_it_is(tmp_path: Path) -> None:
    layout = tmp_path / "a:b"
    make_layout(layout, "4", [LAYER])
    assert reference(f"oci:{layout}:4") == reference(f"oci:{layout}") == "localhost/a-b:4"


def test_the_name_that_containerd_wrote_is_the_images_name(tmp_path: Path) -> None:
    image = make_layout(tmp_path, "4", [LAYER])
    index = json.loads((tmp_path / "index.json").read_bytes())
    index["manifests"][0]["annotations"][IMAGE_NAME] = "docker.io/library/redis:4"
    (tmp_path / "index.json").write_text(json.dumps(index))
    for tag in ("4", "redis:4", "docker.io/library/redis:4"):
        assert reference(f"oci:{tmp_path}:{tag}") == "docker.io/library/redis:4"
    assert image.digest == entries(tmp_path)[0]["digest"]


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        ("oci-layout", None, MissingError),
        ("oci-layout", "{}", FormatError),
        ("oci-layout", '{"imageLayoutVersion": "2.0.0"}', FormatError),
        ("oci-layout", "x" * 2000, FormatError),
        ("index.json", None, MissingError),
        ("index.json", "[]", FormatError),
        ("index.json", " " * (5 << 20), FormatError),
    ],
)
def test_what_is_no_layout_is_refused(
    file: str, text: str | None, error: type[Exception], tmp_path: Path
) -> None:
    make_layout(tmp_path, "4", [LAYER])
    if text is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(text)
    with pytest.raises(error, match=str(tmp_path)):
        reference(f"oci:{tmp_path}:4")


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    image = make_layout(tmp_path, "4", [LAYER])
    path = tmp_path / "blobs" / image.digest.replace(":", "/")
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))
    with pytest.raises(IntegrityError, match=image.digest):
        reference(f"oci:{tmp_path}:4")


def test_layers_come_in_bounded_chunks(tmp_path: Path) -> None:
    make_layout(tmp_path, "4", [tar_layer({"a": os.urandom(3 << 20)})], compression="none")
    source = open_source(f"oci:{tmp_path}:4", RegistryConfig())
    layer = source.images(None)[0].layers[0]
    with source.open_blob(layer.descriptor) as chunks:
        parts = list(chunks)
    assert digest_of(b"".join(parts)) == layer.descriptor.digest
    assert max(map(len, parts)) <= 1 << 20
    source.close()


def test_a_tag_moves_and_other_tags_and_their_unknown_fields_stay(tmp_path: Path) -> None:
    tag_entry(
        tmp_path,
        "other",
        {"mediaType": MediaType.OCI_INDEX, "digest": ROOT.digest, "size": 9, "urls": ["x"]},
    )
    for name in ("4", "4"):
        with LayoutWriter(tmp_path) as layout:
            layout.put(ROOT, INDEX)
            layout.tag(ROOT, name)
    assert [e["annotations"]["org.opencontainers.image.ref.name"] for e in entries(tmp_path)] == [
        "other",
        "4",
    ]
    assert entries(tmp_path)[0]["urls"] == ["x"]


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        for number in range(20):
            with LayoutWriter(tmp_path / "layout") as layout:
                layout.put(ROOT, INDEX)
                layout.tag(ROOT, f"{writer}-{number}")

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entries(tmp_path / "layout")) == 80


def test_a_writer_that_is_killed_leaves_a_layout_that_others_read_and_write(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    for lines in range(1, 8):
        command = [sys.executable, "-c", _WRITER, str(layout)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                assert writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
        for entry in entries(layout):
            blob = layout / "blobs" / entry["digest"].replace(":", "/")
            assert digest_of(blob.read_bytes()) == entry["digest"]
    with LayoutWriter(layout):
        pass
    assert not list(layout.rglob(".*"))


def test_bytes_with_another_digest_are_not_written(tmp_path: Path) -> None:
    with LayoutWriter(tmp_path / "l") as layout, pytest.raises(IntegrityError):
        layout.put(ROOT, b"other")
    assert not list((tmp_path / "l/blobs/sha256").iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match=f"cannot write OCI layout {tmp_path}/file/l"),
        LayoutWriter(tmp_path / "file/l"),
    ):
        pass


def test_umoci_and_skopeo_read_what_was_written(tmp_path: Path) -> None:
    umoci, skopeo = needs.command("umoci"), needs.command("skopeo")
    made = make_layout(tmp_path / "a", "4", [LAYER])
    manifest = (tmp_path / "a/blobs" / made.digest.replace(":", "/")).read_bytes()
    root = Descriptor(MediaType.OCI_MANIFEST, made.digest, len(manifest))
    with LayoutWriter(tmp_path / "b") as layout:
        for digest in (*made.layers, digest_of(made.config), made.digest):
            data = (tmp_path / "a/blobs" / digest.replace(":", "/")).read_bytes()
            layout.put(Descriptor("any", digest, len(data)), data)
        layout.tag(root, "4-thin")
    tags = subprocess.run(
        [umoci, "ls", "--layout", tmp_path / "b"], check=True, capture_output=True
    )
    assert tags.stdout == b"4-thin\n"
    source, target = f"oci:{tmp_path}/b:4-thin", f"oci:{tmp_path}/c:x"
    subprocess.run([skopeo, "copy", "--quiet", source, target], check=True)
    assert entries(tmp_path / "c")[0]["digest"] == made.digest
