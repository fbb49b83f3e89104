"""An image that came in a file is served where there is no network at all."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.kept_repository import bodies_of
from tests.support.small_images import convert_here, make_images
from thinfs.oci.recipe import render_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sites import Site

pytestmark = pytest.mark.mount


def test_a_node_without_network_serves_what_was_loaded(site: Site, folder: Path) -> None:
    """The recipe names a repository that nobody can reach and the node does not allow."""
    [image] = make_images(folder / "in", 1)
    made = convert_here(folder / "builder", image, url="https://images.invalid/thin")
    bundle = folder / "bundle.tar"
    _run(site, "save", f"--repo={folder / 'builder'}", made.name, "-o", str(bundle))
    offline = ["unshare", "--net", "--"]
    _run(site, "load", "--no-containerd", str(bundle), before=offline)
    site.daemon_command = [*offline, *site.command("-v", "daemon")]
    recipe = render_recipe(made.images[0].recipe).decode()
    assert json.loads(recipe)["thinfs"]["repositories"] == ["https://images.invalid/thin"]
    with site.daemon(), site.client() as client:
        root = client.attach("test", recipe)
        for path, body in bodies_of(folder / "builder", made.name).items():
            assert (site.folder / root.directory / path.decode()).read_bytes() == body


def _run(site: Site, *arguments: str, before: list[str] | None = None) -> None:
    command = [*(before or []), *site.command(*arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
