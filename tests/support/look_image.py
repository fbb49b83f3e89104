"""An image that says what it looks like from inside, and has all that makes stacking hard."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import needs
from tests.support.layouts import make_layout, tar_layer

if TYPE_CHECKING:
    from tests.support.containerd import Containerd

CONFIG = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/look"]}}


def compile_look(folder: Path) -> bytes:
    """The program ``/look``, which needs nothing else in its root file system."""
    program = folder / "look"
    source = Path(__file__).with_name("look.c")
    compiler = needs.command("cc", "gcc")
    subprocess.run([compiler, "-static", "-O1", "-o", program, source], check=True)
    return program.read_bytes()


def layer(*entries: tarfile.TarInfo, program: bytes = b"") -> bytes:
    """A tar stream; ``look`` gets the program's bytes, other files as many as their size says."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for entry in entries:
            data = program if entry.name == "look" else b"x" * entry.size
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def entry(name: str, mode: int, **more: object) -> tarfile.TarInfo:
    """One entry, by default a regular file of root's; ``more`` are its other attributes."""
    made = tarfile.TarInfo(name)
    made.mode = mode
    for attribute, value in more.items():
        setattr(made, attribute, value)
    return made


def odd_layers(program: bytes) -> list[bytes]:
    """Layers with all that makes stacking hard: owners, whiteouts, opaque directories, links."""
    folder = tarfile.DIRTYPE
    base = layer(
        entry("./", 0o751, type=folder, uid=3, gid=4),
        entry("etc", 0o755, type=folder),
        *(entry(f"etc/{n}", 0o640, size=9) for n in ("changed", "owned", "deleted", "renamed")),
        entry("old", 0o1777, type=folder),
        entry("old/gone", 0o644, size=1),
        entry("hidden", 0o644, size=1),
        entry("look", 0o755),
        program=program,
    )
    above = layer(
        entry(".wh.hidden", 0o644),
        entry("old", 0o700, type=folder, uid=5),
        entry("old/.wh..wh..opq", 0o644),
        entry("old/new", 0o4755, size=3, uid=5, gid=6),
        entry("link", 0o777, type=tarfile.SYMTYPE, linkname="old/new"),
        entry("old/hard", 0o4755, uid=5, gid=6, type=tarfile.LNKTYPE, linkname="old/new"),
        entry("pipe", 0o600, type=tarfile.FIFOTYPE),
        entry("null", 0o666, type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    )
    return [base, above, tar_layer({"etc/top": b"top"})]


def import_image(node: Containerd, snapshotter: str, name: str, layers: list[bytes]) -> None:
    """Import an image from a layout, as a user of ctr would."""
    layout = node.folder / f"layout-{snapshotter}"
    make_layout(layout, name, layers, CONFIG)
    import_archive(node, snapshotter, layout)


def import_archive(node: Containerd, snapshotter: str, layout: Path, base: str = "") -> None:
    """Import what is in a layout; tags without a name get that of ``base``."""
    archive = node.folder / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(layout, arcname="")
    name = ("--base-name", base) if base else ()
    node.ctr("images", "import", *name, "--snapshotter", snapshotter, archive)


def run(node: Containerd, snapshotter: str, image: str, *words: str) -> list[str]:
    """What the program prints in a new container, in order of names."""
    name = f"c-{snapshotter}-{len(words)}"
    options = ("--rm", "--snapshotter", snapshotter)
    return sorted(node.ctr("run", *options, image, name, "/look", *words).splitlines())
