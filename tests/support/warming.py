"""A node that warms from a repository whose every request is known."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tomli_w

from tests.support.kept_repository import catalog_of
from tests.support.lazy import HeldFiles
from tests.support.processes import Process
from tests.support.small_images import convert_here, make_images
from thinfs.oci.recipe import render_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.faulty_http import FaultyServer

MAX_BYTES = 1 << 30


@dataclass
class WarmNode:
    """A folder with a cache and a configuration, and the repository that it may ask.

    Attributes:
        server: of the repository; counts.
        files: of the repository; can be held back.
        recipes: paths of the images' recipes.
        catalogs: digests of their catalogs.
    """

    folder: Path
    server: FaultyServer
    files: HeldFiles
    recipes: list[Path] = field(default_factory=list)
    catalogs: list[str] = field(default_factory=list)
    cache_settings: dict[str, Any] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def command(self, *arguments: str | Path) -> list[str]:
        """A command line with this node's configuration."""
        config = self.folder / "config.toml"
        settings: dict[str, Any] = {
            "repository": {"path": str(self.folder / "no-repository")},
            "sources": {"allow": [self.server.url + "/"], "read_timeout_s": 20.0},
            "cache": {"path": str(self.cache), "max_bytes": MAX_BYTES, **self.cache_settings},
            "daemon": {"socket": str(self.folder / "d.sock"), "state": str(self.folder / "state")},
        }
        config.write_text(tomli_w.dumps(settings))
        program = [sys.executable, "-m", "thinfs.cli.main", "--config", str(config)]
        return [*program, *map(str, arguments)]

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        """Run a command that ends with ``code``; its standard output, and errors when it fails."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 or "--json" in arguments else done.stderr

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """The same as JSON."""
        return json.loads(self.run(*arguments, "--json", code=code))

    def start(self, *arguments: str | Path) -> Process:
        """Start a command."""
        return Process(self.command(*arguments), folder=self.folder, name="warm")

    def asked(self) -> list[str]:
        """Objects that were asked for."""
        return [path for path in self.files.asked if path.startswith("objects/")]

    def bodies_in(self, image: int, path: str) -> set[bytes]:
        """Digests of the whole contents in an object of an image."""
        digest = bytes.fromhex(path.rpartition("/")[2])
        with catalog_of(self.folder / "built", self.catalogs[image]) as catalog:
            refs = catalog.contents_in(digest)
        return {ref.digest for ref in refs if ref.extent.length == ref.size}

    def has(self, content: bytes) -> bool:
        """Whether a content is in the cache, whole."""
        name = content.hex()
        return (self.cache / "contents" / name[:2] / name).exists()


def warm_node(folder: Path, server: FaultyServer, images: int) -> WarmNode:
    """Convert small images into a repository behind ``server``."""
    node = WarmNode(folder, server, HeldFiles(folder))
    for number, image in enumerate(make_images(folder / "in", images)):
        made = convert_here(folder / "built", image, url=server.url)
        recipe = made.images[0].recipe
        assert recipe.thinfs is not None
        node.recipes.append(folder / f"{number}.json")
        node.recipes[-1].write_bytes(render_recipe(recipe))
        node.catalogs.append(recipe.thinfs.root.catalog.digest)
    node.files = HeldFiles(folder / "built")
    server.files = node.files
    return node
