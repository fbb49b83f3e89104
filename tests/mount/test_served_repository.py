"""What is served over HTTP is what a mount reads: both servers, with the real commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.layouts import make_layout, tar_layer
from tests.support.servers import nginx, thinfs_serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

FILES = {
    "etc/motd": b"hello\n",
    "usr/bin/large": os.urandom(3 << 20),
    **{f"usr/share/small/{number}": b"%d\n" % number * 100 for number in range(300)},
}


def thinfs(*arguments: str | Path, home: Path) -> str:
    command = [sys.executable, "-m", "thinfs.cli.main", "--config", home / "thinfs.toml"]
    ran = subprocess.run(
        [*map(str, command), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@contextmanager
def served_by(server: str, repository: Path, folder: Path) -> Iterator[str]:
    if server == "nginx":
        with nginx(repository, folder) as url:
            yield url
    else:
        with thinfs_serve(repository) as (url, _):
            yield url


@pytest.mark.parametrize("server", ["thinfs serve", "nginx"])
def test_a_mount_reads_a_converted_image_from_the_server(server: str, folder: Path) -> None:
    make_layout(folder / "image", "v1", [tar_layer(FILES)])
    repository, mountpoint = folder / "repository", folder / "mnt"
    mountpoint.mkdir()
    (folder / "thinfs.toml").write_text(
        f'[repository]\npath = "{folder}/another"\n[cache]\npath = "{folder}/cache"\n'
    )
    # a directory must be a repository before it is served, and its address is known only then
    thinfs(
        "convert", "--repo", repository, f"oci:{folder}/image:v1", "--no-containerd", home=folder
    )
    with served_by(server, repository, folder) as url:
        convert = ("convert", "--repo", repository, "--url", url, "--name", "served:thin")
        layout = f"oci:{folder}/thin:served"
        thinfs(*convert, "--output", layout, f"oci:{folder}/image:v1", home=folder)
        mounted = thinfs("mount", "--allow", url, layout, mountpoint, "--json", home=folder)
        try:
            assert json.loads(mounted)["mountpoint"] == str(mountpoint)
            assert {name: (mountpoint / name).read_bytes() for name in FILES} == FILES
        finally:
            thinfs("umount", mountpoint, home=folder)
