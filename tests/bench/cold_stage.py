"""What cold starts are measured against: a registry, web servers, and all forms of an image.

Everything is on this machine's loopback; the node reaches it through the line of
:mod:`thinfs.bench`.
"""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench import estargz
from tests.bench.touched import touched_bytes
from tests.support import needs
from tests.support.daemons import Node
from tests.support.registry import start_registry
from tests.support.servers import nginx
from thinfs.bench.values import Contestant, Proxy, Thin
from thinfs.store.profiles import parse_profile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.workloads import Workload
    from tests.support.image_cache import Layout
    from tests.support.registry import Registry

PUSH_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands outside of the node.

    Attributes:
        registry: for whole, eStargz and thin images.
        converter: has the configuration and the repository for ``thinfs convert``.
        url: where nginx serves that repository.
    """

    registry: Registry
    converter: Node
    url: str

    @property
    def ports(self) -> tuple[int, int]:
        """Of the registry and of the web server, on 127.0.0.1."""
        return int(self.registry.address.rpartition(":")[2]), int(self.url.split(":")[2].strip("/"))

    def name(self, work: Workload, form: str) -> str:
        """The full reference of one form of an image."""
        return f"{self.registry.address}/{work.name}:{form}"

    def overlayfs(self, work: Workload) -> Contestant:
        """containerd's own: the whole image is pulled and unpacked."""
        self._push(work.image(), self.name(work, "full"))
        return Contestant("overlayfs", self.name(work, "full"), "overlayfs", serving=self.ports)

    def estargz(self, work: Workload) -> Contestant:
        """stargz-snapshotter with an image that nobody has optimised."""
        self._push(estargz.plain(work), self.name(work, "estargz"))
        return self._stargz("estargz", self.name(work, "estargz"))

    def optimised(self, work: Workload) -> Contestant:
        """stargz-snapshotter with an image that was made while the workload ran."""
        self._push(estargz.optimised(work), self.name(work, "optimised"))
        return self._stargz("optimised", self.name(work, "optimised"))

    def thin(self, work: Workload) -> Contestant:
        """thinfs, without a boot profile."""
        name = self.name(work, "thin")
        self._convert(work, name, "--no-profile")
        return self._thin("lazy", name)

    def profiled(self, work: Workload) -> Contestant:
        """thinfs with one, recorded now; the image without one is another and stays as it is."""
        name = self.name(work, "profile")
        self._convert(work, name)
        ready = ("--ready-line", work.ready.text) if work.ready.kind == "line" else ()
        saved = ("--save", str(self._profile(work)))
        self.converter.thinfs(
            *("profile", "record", name, *ready, "--fresh", "--push", name),
            *(*saved, "--", *work.command),
        )
        return self._thin("profile", name)

    def touched_bytes(self, work: Workload) -> int:
        """Compressed size of what the last recorded start of a workload touched."""
        file = self._profile(work)
        profile = parse_profile(file.read_bytes(), str(file))
        return touched_bytes(self.converter.repository, profile)

    def _profile(self, work: Workload) -> Path:
        return self.converter.folder / f"{work.name}.profile"

    def _convert(self, work: Workload, name: str, *options: str) -> None:
        places = ("--url", self.url, "--name", name, "--push", name)
        self.converter.thinfs("convert", work.image().source, *places, *options)

    def _thin(self, label: str, image: str) -> Contestant:
        return Contestant(label, image, "thin", Thin(allow=(self.url,)), serving=self.ports)

    def _stargz(self, label: str, image: str) -> Contestant:
        start = (str(estargz.SERVICE), "--address={socket}", "--root={root}")
        pull = (
            *("ctr-remote", "--address={address}", "--namespace={namespace}"),
            *("images", "rpull", "--snapshotter={snapshotter}", "{image}"),
        )
        return Contestant(label, image, "stargz", Proxy(start), pull, self.ports)

    def _push(self, layout: Layout, name: str) -> None:
        copy = (
            *(needs.command("skopeo"), "--insecure-policy", "copy", "--quiet"),
            *("--preserve-digests", "--dest-tls-verify=false"),
        )
        subprocess.run(
            [*copy, layout.source, f"docker://{name}"], check=True, timeout=PUSH_TIMEOUT_S
        )


@contextlib.contextmanager
def stage(folder: Path, *, log: Path | None = None) -> Iterator[Stage]:
    """Run the servers while the block runs.

    Args:
        folder: made by :func:`tests.support.sweep.make_folder`.
        log: where nginx writes a line for each request; without one it writes none.
    """
    converter = Node(folder / "n")
    converter.repository.mkdir()
    with start_registry(folder) as registry, nginx(converter.repository, folder, log=log) as url:
        yield Stage(registry, converter, url)
