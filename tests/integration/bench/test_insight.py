"""What is known of reads that pass our processes by, and where contents lie."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.support import needs
from tests.support.layouts import make_layout, tar_layer
from tests.support.small_images import convert_here
from thinfs.bench.layout import objects_of
from thinfs.bench.leftovers import marked
from thinfs.bench.opens import Opens
from thinfs.bench.processes import Process
from thinfs.bench.trace import METADATA

if TYPE_CHECKING:
    from pathlib import Path

NAME = "a1" * 32


@pytest.fixture
def contents(tmp_path: Path) -> Path:
    needs.root()
    for folder in ("a1", "b2"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a1" / NAME).write_text("body")
    (tmp_path / "b2" / ("b2" * 32)).write_text("unread")
    return tmp_path


def read_elsewhere(path: Path) -> None:
    subprocess.run([sys.executable, "-c", f"open({str(path)!r}).read()"], check=True)


def test_contents_that_somebody_opens_are_seen(contents: Path) -> None:
    with Opens(contents) as opens:
        read_elsewhere(contents / "a1" / NAME)
        assert opens.collect(()) == {NAME}
        assert opens.collect(()) == set()


def test_what_the_daemon_itself_opens_does_not_count(contents: Path) -> None:
    with Opens(contents) as opens:
        (contents / "a1" / NAME).read_text()
        assert opens.collect({os.getpid()}) == set()


def test_contents_that_come_later_are_seen_too(contents: Path) -> None:
    with Opens(contents) as opens:
        draft = contents / "draft"
        draft.write_text("new")
        draft.rename(contents / "b2" / NAME)
        read_elsewhere(contents / "b2" / NAME)
        assert opens.collect(()) == {NAME}


def test_contents_read_through_an_overlay_are_seen(contents: Path, folder: Path) -> None:
    """As in a native root: the layer below is opened by the kernel alone."""
    for name in ("meta", "root"):
        (folder / name).mkdir()
    (folder / "meta/file").touch()
    os.setxattr(folder / "meta/file", "trusted.overlay.metacopy", b"")
    os.setxattr(folder / "meta/file", "trusted.overlay.redirect", f"/a1/{NAME}".encode())
    layers = f"metacopy=on,lowerdir={folder}/meta::{contents}"
    mount = ["mount", "-t", "overlay", "-o", layers, "none", str(folder / "root")]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        needs.impossible("no data-only layers of overlayfs here")
    with Opens(contents) as opens:
        read_elsewhere(folder / "root/file")
        assert opens.collect(()) == {NAME}


def test_processes_are_found_by_their_mark_and_by_who_started_them(tmp_path: Path) -> None:
    script = "sleep 60 & echo; wait"
    with Process(["sh", "-c", script], folder=tmp_path, name="sh", stdout=subprocess.PIPE) as shell:
        assert shell.popen.stdout is not None
        shell.popen.stdout.readline()
        found = marked(tmp_path)
        assert shell.popen.pid in found
        assert len(found) == 2
        assert marked(tmp_path / "other") == []
        subprocess.run(["kill", *(str(pid) for pid in found)], check=True)


def test_a_nodes_cache_says_what_lies_in_which_object(tmp_path: Path) -> None:
    files = {f"d/{number}": bytes([number]) * (5_000 + number) for number in range(20)}
    make_layout(tmp_path / "layout", "one", [tar_layer(files)])
    repository, cache = tmp_path / "repository", tmp_path / "cache"
    convert_here(repository, f"oci:{tmp_path}/layout:one")
    _keep(repository / "catalogs", cache / "catalogs")
    _keep(repository / "boots", cache / "boots")
    stored = {path.name for path in (repository / "objects").glob("*/*")}
    found = objects_of(cache, stored | {"f" * 64})
    assert set(found.sizes) == stored
    pieces = [piece for name in stored for piece in found.pieces[name]]
    assert sum(piece.length for piece in pieces if piece.content != METADATA) == sum(
        len(body) for body in files.values()
    )
    assert any(piece.content == METADATA for piece in pieces)


def _keep(published: Path, kept: Path) -> None:
    """As a node keeps what was published: uncompressed, without folders."""
    kept.mkdir(parents=True)
    for path in published.glob("*/*"):
        data = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        (kept / path.name).write_bytes(data)
