"""What looks at images reads them from any repository that is allowed, over HTTP too."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.converted import recipe_of
from tests.support.kept_repository import bodies_of, checked, stored_files
from tests.support.servers import thinfs_serve
from tests.support.small_images import convert_here, image_name, make_images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Afar:
    """A repository behind HTTP, and recipes of its images as files; nothing else is here."""

    def __init__(self, folder: Path, repository: Path, url: str) -> None:
        self.folder = folder
        self.repository = repository
        self.url = url
        self.config = folder / "config.toml"

    def allow(self, *urls: str) -> None:
        lines = (
            f'[repository]\npath = "{self.folder}/none"\n[sources]\nallow = {json.dumps(urls)}\n'
        )
        self.config.write_text(lines)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "thinfs.cli.main", "--config", self.config, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def afar(tmp_path: Path) -> Iterator[Afar]:
    images = make_images(tmp_path / "in", 2)
    (tmp_path / "repo").mkdir()
    convert_here(tmp_path / "repo", images[0])
    with thinfs_serve(tmp_path / "repo") as (url, _):
        for image in images:
            convert_here(tmp_path / "repo", image, url=url)
            recipe: Any = recipe_of(tmp_path / "repo/oci", image_name(image))
            (tmp_path / f"{image[-1]}.json").write_text(json.dumps(recipe))
        yield Afar(tmp_path, tmp_path / "repo", url)


def test_an_image_is_inspected_and_compared_by_its_recipe_alone(afar: Afar) -> None:
    afar.allow(afar.url)
    done = afar.run("inspect", "--json", afar.folder / "0.json")
    assert done.returncode == 0, done.stderr
    assert [layer["contents"] for layer in json.loads(done.stdout)["layers"]] == [20, 12]
    done = afar.run("compare", "--json", afar.folder / "0.json", afar.folder / "1.json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["contents"]["shared"]["count"] > 0


def test_what_is_not_allowed_is_not_asked(afar: Afar) -> None:
    afar.allow()
    done = afar.run("inspect", "--json", afar.folder / "0.json")
    assert done.returncode == 3
    assert "no repository to ask" in done.stderr


def test_a_repository_is_mended_over_http(afar: Afar) -> None:
    afar.allow()
    name = image_name("x:0")
    copy = afar.folder / "copy"
    shutil.copytree(afar.repository, copy)
    for kind in ("objects", "catalogs", "metadata", "boots", "oci/blobs"):
        victim = copy / min(path for path in stored_files(copy) if path.startswith(kind))
        victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    done = afar.run("check", "--repair", "--from", afar.url, "--repo", copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 5 mended" in done.stdout
    assert checked(copy).problems == []
    assert bodies_of(copy, name) == bodies_of(afar.repository, name)


def test_a_bundle_may_take_what_is_not_here_from_afar(afar: Afar) -> None:
    """A repository may be a cache of names whose objects are elsewhere."""
    afar.allow(afar.url)
    copy = afar.folder / "copy"
    shutil.copytree(afar.repository, copy)
    shutil.rmtree(copy / "objects")
    name = image_name("x:1")
    done = afar.run("save", "--repo", copy, name, "-o", afar.folder / "b.tar")
    assert done.returncode == 0, done.stderr
    done = afar.run("load", "--no-containerd", "--repo", afar.folder / "new", afar.folder / "b.tar")
    assert done.returncode == 0, done.stderr
    assert bodies_of(afar.folder / "new", name) == bodies_of(afar.repository, name)
