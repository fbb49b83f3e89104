"""From what a user names to contestants: which image, pulled from where, by whom.

Nothing is measured here. An image that no registry has, because it was converted on this
machine or lies in an OCI layout, is served by registries and repositories of the benchmark's
own, on free ports of loopback, outside of the node's namespace.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from thinfs.bench import registry
from thinfs.bench.addresses import is_loopback, loopback_ports
from thinfs.bench.processes import Process, run
from thinfs.bench.registry import Served
from thinfs.bench.values import Contestant, Proxy, Thin
from thinfs.errors import FormatError, MissingError, StoreError, UsageError
from thinfs.oci.hosts import hosts_for
from thinfs.oci.naming import LayoutName, parse_name
from thinfs.oci.recipe import parse_recipe
from thinfs.oci.reference import Reference, parse_reference
from thinfs.oci.source import credentials
from thinfs.roots.recipes import find_recipe
from thinfs.store.layout import IMAGES_DIRECTORY
from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from thinfs.bench.scratch import Scratch
    from thinfs.config import Config, RegistryConfig
    from thinfs.oci.recipe import Recipe

THIN: Final = "thin"
CONVERT_TIMEOUT_S: Final = 3600.0
_THINFS: Final = (sys.executable, "-m", "thinfs.cli.main")
_NAME: Final = "bench"

_STARGZ: Final = (
    "containerd-stargz-grpc --address {socket} --root {root} --config {folder}/stargz.toml"
)
_RPULL: Final = "ctr-remote --address {address} --namespace {namespace} images rpull {image}"
PEERS: Final[Mapping[str, tuple[Proxy, tuple[str, ...]]]] = {
    "stargz": (
        Proxy(start=tuple(_STARGZ.split()), files=(("stargz.toml", ""),)),
        tuple(_RPULL.split()),
    ),
}
"""Snapshotters of others that need no more than their name: what serves them, what pulls."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user asks for.

    Attributes:
        image: a thin or an ordinary image: reference, or ``oci:DIR[:TAG]``.
        against: other contestants: a snapshotter built into containerd, one of
            :data:`PEERS`, or ``NAME=`` and the command line or the socket of a proxy snapshotter.
        images: contestant → the image that it pulls, where that is another one.
        pulls: contestant → command line that pulls, in place of ``ctr images pull``.
    """

    image: str
    against: tuple[str, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    pulls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lineup:
    """Who takes part.

    Attributes:
        contestants: thinfs first.
        plain_http: registries without TLS that are not known as such.
        hosts_dir: directory of ``<registry>/hosts.toml`` that clients are given.
        logins: registry → ``user:password``, as far as they are known.
        notes: what a reader must know.
    """

    contestants: tuple[Contestant, ...]
    plain_http: tuple[str, ...]
    hosts_dir: Path | None
    logins: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Images:
    """The two forms of the image.

    Attributes:
        thin: reference of the thin image.
        original: of the ordinary one.
        node: of the thin contestant.
        ports: of loopback that it fetches from.
        note: for readers; may be empty.
    """

    thin: str
    original: str
    node: Thin
    ports: tuple[int, ...]
    note: str = ""


@contextlib.contextmanager
def lineup(
    wanted: Wanted, config: Config, place: Scratch, say: Callable[[str], None]
) -> Iterator[Lineup]:
    """Have all images where contestants can pull them, while the block runs.

    Args:
        wanted: by the user.
        config: ``[repository]`` is looked into for thin images, ``[registry]`` says how
            registries are reached, ``[sources] allow`` is kept.
        place: for what has to be converted.
        say: hears of steps that take time.

    Raises:
        UsageError: a contestant is described wrongly.
        MissingError: there is no such image.
        ThinfsError: whatever registries and conversion raise.
    """
    with contextlib.ExitStack() as stack:
        images = _Kitchen(config, place, stack).images(wanted.image, say)
        directories = [Path(each) for each in config.registry.hosts_dirs]
        thin = Contestant(THIN, images.thin, THIN, images.node, serving=images.ports)
        others = tuple(
            contestant(text, wanted, images.original, directories)
            for each in wanted.against
            for text in ([each] if "=" in each else each.split(","))
        )
        names = [each.name for each in (thin, *others)]
        if len(set(names)) < len(names):
            raise UsageError(f"contestants must have different names: {', '.join(names)}")
        registries = {parse_reference(each.image).registry for each in (thin, *others)}
        yield Lineup(
            contestants=(thin, *others),
            plain_http=tuple(sorted(each for each in registries if is_loopback(f"//{each}"))),
            hosts_dir=next((each for each in directories if each.is_dir()), None),
            logins=_logins(registries, config.registry, directories),
            notes=tuple(filter(None, [images.note])),
        )


def contestant(
    text: str, wanted: Wanted, original: str, hosts_dirs: Sequence[Path] = ()
) -> Contestant:
    """Read one ``--against``: ``overlayfs``, ``stargz``, ``NAME=COMMAND`` or ``NAME=SOCKET``.

    Args:
        text: of it.
        wanted: says its image and its way to pull, where they are others.
        original: the image otherwise.
        hosts_dirs: say where registries really are.

    Raises:
        UsageError: there is no name or no command.
    """
    name, equals, how = (part.strip() for part in text.partition("="))
    if not name or (equals and not how):
        raise UsageError(f"--against {text!r}: give a snapshotter's name, NAME=COMMAND or a socket")
    proxy, pull = PEERS.get(name, (None, ()))
    if equals:
        proxy = Proxy(socket=how) if how.startswith("/") and " " not in how else None
        proxy = proxy or Proxy(start=tuple(shlex.split(how)))
    if name in wanted.pulls:
        pull = tuple(shlex.split(wanted.pulls[name]))
    image = parse_reference(wanted.images.get(name, original))
    ports = _registry_ports(image.registry, hosts_dirs)
    return Contestant(name, image.canonical, name, proxy, pull, ports)


def _registry_ports(name: str, hosts_dirs: Sequence[Path]) -> tuple[int, ...]:
    """Ports of loopback where a registry is looked for."""
    return loopback_ports([host.url for host in hosts_for(name, hosts_dirs)])


@dataclass(frozen=True, slots=True)
class _Kitchen:
    """Where images are made ready.

    Attributes:
        config: the user's.
        place: for files and logs.
        stack: ends the servers that are started.
    """

    config: Config
    place: Scratch
    stack: contextlib.ExitStack

    def images(self, image: str, say: Callable[[str], None]) -> _Images:
        """Find an image, or make it."""
        name = parse_name(image, Path.exists)
        if isinstance(name, Reference):
            local = _local_thin(name, self.config)
            if local is not None:
                return self._of_repository(name, *local)
            recipe = _thin_recipe(image, self.config)
            if recipe is not None:
                return _of_registry(name, recipe, self.config)
        say(f"converting {image}")
        return self._converted(image, name)

    def _of_repository(self, name: Reference, tag: str, recipe: Recipe) -> _Images:
        """A thin image of this machine's own repository, both served on loopback."""
        repository = Path(self.config.repository.path)
        port = self._serve_images(Served(_NAME, repository / IMAGES_DIRECTORY, tag))
        url, repository_port = self._serve_repository(repository)
        named = recipe.thinfs.repositories if recipe.thinfs else []
        return _Images(
            thin=f"127.0.0.1:{port}/{_NAME}:thin",
            original=recipe.origin if tag == name.canonical else name.canonical,
            # those that the recipe names come after the mirror, so they are not asked
            node=Thin(allow=(url, *named), settings=(("sources", "mirrors", (url,)),)),
            ports=(port, repository_port),
            note=f"The thin image is {tag} of {repository}.",
        )

    def _converted(self, image: str, name: Reference | LayoutName) -> _Images:
        """An ordinary image, converted for this benchmark alone."""
        if isinstance(name, LayoutName) and name.scheme != "oci":
            raise UsageError(
                f"{image}: containerd pulls no archives; unpack it: skopeo copy {image} oci:DIR:TAG"
            )
        repository = self.place.folder / "repository"
        LocalRepository.open_or_create(repository)
        url, repository_port = self._serve_repository(repository)
        thin_name = f"{_NAME}.invalid/{_NAME}:thin"
        options = ["--repo", str(repository), "--url", url, "--name", thin_name]
        argv = [*self._thinfs(), "convert", image, *options, "--no-containerd", "--json"]
        run(argv, timeout_s=CONVERT_TIMEOUT_S)
        served = [Served(_NAME, repository / IMAGES_DIRECTORY, thin_name)]
        if isinstance(name, LayoutName):
            served.append(Served(f"{_NAME}/original", name.path.absolute(), name.tag))
        port = self._serve_images(*served)
        original = f"127.0.0.1:{port}/{_NAME}/original:latest"
        return _Images(
            thin=f"127.0.0.1:{port}/{_NAME}:thin",
            original=name.canonical if isinstance(name, Reference) else original,
            node=Thin(allow=(url,)),
            ports=(port, repository_port),
            note=f"{image} was converted for this measurement.",
        )

    def _thinfs(self) -> list[str]:
        """A thinfs command with this configuration, which need not be in any file."""
        file = self.place.folder / "config.toml"
        file.write_bytes(msgspec.toml.encode(self.config))
        return [*_THINFS, "--config", str(file)]

    def _serve_images(self, *images: Served) -> int:
        """A registry on a free port: the port."""
        argv = [sys.executable, "-m", registry.__name__, *(image.text for image in images)]
        return int(self._first_line(argv, "registry"))

    def _serve_repository(self, repository: Path) -> tuple[str, int]:
        """``thinfs serve`` on a free port: URL and port."""
        options = ["--repo", str(repository), "--listen", "127.0.0.1:0", "--json"]
        url = str(json.loads(self._first_line([*_THINFS, "serve", *options], "serve"))["url"])
        return url, loopback_ports([url])[0]

    def _first_line(self, argv: Sequence[str], name: str) -> str:
        """Start a server of our own; the first line that it says, when it serves."""
        process = Process(argv, folder=self.place.folder, name=name, stdout=subprocess.PIPE)
        self.stack.enter_context(process)
        assert process.popen.stdout is not None
        line = process.popen.stdout.readline().decode().strip()
        if not line:
            raise StoreError(f"{name} did not start: {process.tail(1)}")
        return line


def _local_thin(name: Reference, config: Config) -> tuple[str, Recipe] | None:
    """Tag and recipe of a thin image that was made on this machine; ``None``: there is none."""
    layout = Path(config.repository.path) / IMAGES_DIRECTORY
    for each in (name.canonical, name.thin().canonical):
        with contextlib.suppress(MissingError, FormatError):
            return each, parse_recipe(find_recipe(f"oci:{layout}:{each}", config).encode())
    return None


def _thin_recipe(image: str, config: Config) -> Recipe | None:
    """The recipe of a thin image in a registry; ``None``: it is an ordinary image."""
    elsewhere = replace(config.repository, path="/nonexistent")
    try:
        return parse_recipe(find_recipe(image, replace(config, repository=elsewhere)).encode())
    except FormatError:
        return None


def _of_registry(name: Reference, recipe: Recipe, config: Config) -> _Images:
    repositories = recipe.thinfs.repositories if recipe.thinfs else []
    return _Images(
        thin=name.canonical,
        original=recipe.origin,
        node=Thin(allow=(*config.sources.allow, *repositories)),
        ports=(
            *_registry_ports(name.registry, [Path(each) for each in config.registry.hosts_dirs]),
            *loopback_ports(repositories),
        ),
    )


def _logins(
    registries: Collection[str], config: RegistryConfig, hosts_dirs: Sequence[Path]
) -> dict[str, str]:
    """What Docker's configuration knows; a token cannot be given to ctr, and is left out."""
    store = credentials(config)
    logins: dict[str, str] = {}
    for registry_name in registries:
        for host in hosts_for(registry_name, hosts_dirs):
            login = store.find(host.authority)
            if login.username and login.password:
                logins.setdefault(registry_name, f"{login.username}:{login.password}")
    return logins
