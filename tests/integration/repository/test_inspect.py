"""inspect says where the bytes are, and which layers and directories no start has used."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.converted import recipe_of
from tests.support.layouts import make_layout, tar_layer
from tests.support.small_images import convert_here, image_name
from thinfs.store.layout import profile_path, raw_digest
from thinfs.store.profiles import Profile, Touched, render_profile

if TYPE_CHECKING:
    from pathlib import Path

BASE = {"usr/bin/tool": b"t" * 3_000, "usr/share/doc/a": b"a" * 50_000, "etc/old": b"o" * 700}
MIDDLE = {"opt/big/data": b"d" * 200_000, "opt/big/more": b"m" * 90_000, "same": b"t" * 3_000}
TOP = {"app/main": b"x" * 5_000, "etc/old": b"n" * 800}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("inspect")
    make_layout(base / "in", "1", [tar_layer(layer) for layer in (BASE, MIDDLE, TOP)])
    convert_here(base / "repo", f"oci:{base}/in:1")
    return base / "repo"


def run(verb: str, repository: Path, *arguments: str | Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "thinfs.cli.main", verb, "--json", "--repo", repository, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_layers_say_what_they_bring_repeat_and_hide(repository: Path) -> None:
    found = run("inspect", repository, image_name("x:1"))
    assert found["use"] is None
    assert found["never_used"] == []
    columns = ("contents", "content_bytes", "repeated_bytes", "hidden_bytes")
    assert [tuple(layer[name] for name in columns) for layer in found["layers"]] == [
        (3, 53_700, 0, 700),
        (3, 293_000, 3_000, 0),
        (2, 5_800, 0, 0),
    ]
    assert found["summary"]["file_bytes"] == 53_000 + 293_000 + 5_800
    assert found["summary"]["content_bytes"] == 53_000 + 290_000 + 5_800


def test_the_largest_directories_are_those_that_say_where_the_bytes_are(repository: Path) -> None:
    found = run("inspect", repository, "--top", "2", image_name("x:1"))
    assert [(each["path"], each["bytes"], each["files"]) for each in found["largest"]] == [
        ("opt/big", 290_000, 2),
        ("usr/share/doc", 50_000, 1),
    ]


def test_a_boot_profile_says_which_layers_and_directories_are_never_used(repository: Path) -> None:
    recipe: Any = recipe_of(repository / "oci", image_name("x:1"))
    chain_id = recipe["thinfs"]["root"]["chain_id"]
    touched = (
        Touched(_hex(BASE["usr/bin/tool"]), "usr/bin/tool"),
        Touched(_hex(TOP["app/main"]), "app/main", ranges=((0, 1_000), (4_000, 500))),
        Touched(_hex(b"of another image"), "gone"),
    )
    profile = Profile(1, chain_id, "x", 3, 250, touched)
    file = repository / profile_path(raw_digest(chain_id))
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(render_profile(profile))
    found = run("inspect", repository, image_name("x:1"))
    assert found["use"] == {
        "source": "profile",
        "contents": 2,
        "bytes": 4_500,
        "runs": 3,
        "ready_ms": 250,
    }
    assert [layer["used_bytes"] for layer in found["layers"]] == [3_000, 0, 1_500]
    never = [(each["path"], each["bytes"]) for each in found["never_used"]]
    assert never == [("opt", 290_000), ("usr/share", 50_000), ("etc", 800)]


def _hex(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_two_images_are_compared_by_files_objects_blocks_and_layers(tmp_path: Path) -> None:
    shared = {"lib/shared": b"s" * 300_000}
    for tag, own in (("1", b"one" * 1_000), ("2", b"another" * 1_000)):
        layers = [tar_layer(shared), tar_layer({**MIDDLE, "own": own})]
        make_layout(tmp_path / "in", tag, layers, compression="none")
        convert_here(tmp_path / "repo", f"oci:{tmp_path}/in:{tag}")
    names = [image_name(f"x:{tag}") for tag in "12"]
    originals = [f"oci:{tmp_path}/in:{tag}" for tag in "12"]
    found = run("compare", tmp_path / "repo", *names, "--originals", *originals)
    assert found["contents"]["shared"] == {"count": 4, "bytes": 593_000}
    assert found["contents"]["only_a"] == {"count": 1, "bytes": 3_000}
    assert found["contents"]["only_b"] == {"count": 1, "bytes": 7_000}
    assert found["objects"]["only_b"]["count"] == 1
    assert found["layers"]["shared"]["count"] == 1
    assert found["blocks"]["shared"]["bytes"] >= found["layers"]["shared"]["bytes"]
    assert sum(found["blocks"][part]["bytes"] for part in ("shared", "only_a")) == sum(
        found["layers"][part]["bytes"] for part in ("shared", "only_a")
    )
