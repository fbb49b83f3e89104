"""One door for each family of inputs: what a user's bytes go through before they are believed."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sqlite3
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from catalog.check import check
from catalog.erofs.head import check_head
from catalog.errors import CatalogError, DamagedCatalog
from catalog.model import TreeKind
from snapshotter.filters import parse_filters
from snapshotter.model import SnapshotError
from tests.support import catalogs
from thinfs.config import load as load_config
from thinfs.convert.layer import Workshop, convert_layer
from thinfs.errors import ThinfsError
from thinfs.fetch.proxies import parse_proxies
from thinfs.fetch.verify import Expected, verified, verified_file
from thinfs.oci.archive import DockerArchive, OciArchive
from thinfs.oci.auth import CredentialStore
from thinfs.oci.hosts import hosts_for
from thinfs.oci.layout import check_version
from thinfs.oci.manifest import parse_config, parse_document
from thinfs.oci.model import Descriptor, Layer, MediaType
from thinfs.oci.naming import LayoutName
from thinfs.oci.recipe import parse_recipe
from thinfs.oci.reference import parse_reference
from thinfs.repository.load import load as load_bundle
from thinfs.store.address import parse_address
from thinfs.store.boot import parse_boot
from thinfs.store.credentials import parse_logins
from thinfs.store.index import ContentIndex
from thinfs.store.layout import INDEX_FILE
from thinfs.store.local import LocalRepository
from thinfs.store.profiles import parse_profile
from thinfs.store.records import (
    LayerRecord,
    RepositoryRecord,
    RootRecord,
    check_format,
    parse_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REFUSALS: Final = (ThinfsError, CatalogError, SnapshotError)
"""What a refusal may be. Anything else is a defect."""

_TEMPORARY: Final = re.compile(r"\{place\}/repository/tmp/\S+")
_DIGEST: Final = "sha256:" + "a" * 64


@dataclass(frozen=True, slots=True)
class Door:
    """How one family is read.

    Attributes:
        enter: takes the bytes, the case's options and a folder of its own; raises a refusal.
        prepare: makes the folder into what it was before the bytes came.
        may_keep: folders, relative to the place, in which verified bytes may stay.
    """

    enter: Callable[[bytes, dict[str, Any], Path], object]
    prepare: Callable[[Path], object] = lambda _: None
    may_keep: tuple[str, ...] = ()


class Silent:
    """A progress that nobody watches."""

    def advance(self, *_: object) -> None: ...

    def total(self, *_: object) -> None: ...


@contextmanager
def _as_file(data: bytes, place: Path, name: str) -> Iterator[Path]:
    """The bytes as a file in the place, gone afterwards."""
    file = place / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    try:
        yield file
    finally:
        file.unlink()
        if file.parent != place:
            file.parent.rmdir()


def _text(parse: Callable[[str], object]) -> Door:
    """A door for one line of text; the file's last newline does not belong to it."""
    return Door(lambda data, *_: parse(data.removesuffix(b"\n").decode()))


def _json(parse: Callable[[bytes, str], object], what: str) -> Door:
    return Door(lambda data, *_: parse(data, what))


def _manifest(data: bytes, options: dict[str, Any], _: Path) -> None:
    parse_document(data, options.get("media_type", ""), "the manifest")


def _record(kind: type[Any]) -> Door:
    return Door(lambda data, *_: parse_record(data, kind, "the record"))


def _repository(data: bytes, *_: object) -> None:
    check_format(parse_record(data, RepositoryRecord, "thinfs.json"), "thinfs.json")


def _hosts(data: bytes, _: dict[str, Any], place: Path) -> None:
    with _as_file(data, place, "registry.test/hosts.toml"):
        hosts_for("registry.test", [place])


def _configuration(data: bytes, _: dict[str, Any], place: Path) -> None:
    with _as_file(data, place, "config.toml") as file:
        load_config(file)


def _docker_config(data: bytes, _: dict[str, Any], place: Path) -> None:
    with _as_file(data, place, "config.json") as file:
        CredentialStore(file).find("registry.test")


def _archive(kind: type[OciArchive | DockerArchive]) -> Door:
    def enter(data: bytes, _: dict[str, Any], place: Path) -> None:
        with _as_file(data, place, "image.tar") as file:
            archive = kind(LayoutName("oci-archive", file, None))
            archive.images(None)

    return Door(enter)


def _frame(data: bytes, options: dict[str, Any], _: Path) -> None:
    verified(data, digest=bytes(32), size=options.get("size", 5), name="an object", source="it")


def _frame_file(data: bytes, options: dict[str, Any], place: Path) -> None:
    target = place / "unpacked"
    expected = Expected(bytes(32), options.get("size", 5), "a catalog", "it")
    try:
        verified_file(io.BytesIO(data), target, expected)
    finally:
        target.unlink(missing_ok=True)  # its caller's duty, as it says


def _catalog(data: bytes, _: dict[str, Any], place: Path) -> None:
    """A sound catalog of a root, changed by SQL or, when the file is no SQL, replaced."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        file = Path(folder) / "catalog.sqlite"
        entries = (
            catalogs.directory(b"d"),
            catalogs.file(b"d/f", b"body"),
            catalogs.symlink(b"l", b"d/f"),
        )
        catalogs.write_layer(file, entries, kind=TreeKind.ROOT)
        if data.startswith(b"--"):
            with sqlite3.connect(file) as db:
                db.executescript(data.decode())
            db.close()
        else:
            file.write_bytes(data)
        problems = check(file)
        if problems:
            raise DamagedCatalog("; ".join(problems).replace(str(file), "catalog.sqlite"))


def _erofs(data: bytes, options: dict[str, Any], _: Path) -> None:
    check_head(data, options.get("size", 4096))


def _repository_at(place: Path) -> None:
    repository = LocalRepository.open_or_create(place / "repository")
    ContentIndex(repository.path / INDEX_FILE).close()
    with repository.converting():
        pass


def _layer(data: bytes, options: dict[str, Any], place: Path) -> None:
    repository = LocalRepository.open(place / "repository")
    index = ContentIndex(repository.path / INDEX_FILE)
    digest = options.get("digest", f"sha256:{hashlib.sha256(data).hexdigest()}")
    size = options.get("stated_size", len(data))
    layer = Layer(Descriptor(MediaType.OCI_LAYER, digest, size), _DIGEST)
    blocks = (data[at : at + 65536] for at in range(0, len(data), 65536))
    try:
        with repository.converting() as work:
            convert_layer(layer, blocks, Workshop(repository, index, work, 1, 1), Silent())
    finally:
        index.close()


def _bundle(data: bytes, _: dict[str, Any], place: Path) -> None:
    load_bundle(LocalRepository.open(place / "repository"), io.BytesIO(data), 0, Silent())


def _filter(text: str) -> None:
    parse_filters([text])


def _config(data: bytes, *_: object) -> None:
    parse_config(data, "the configuration")


DOORS: Final[dict[str, Door]] = {
    "address": _text(parse_address),
    "boot": _json(parse_boot, "the boot record"),
    "bundle": Door(_bundle, _repository_at, ("repository/objects",)),
    "catalog": Door(_catalog),
    "config": Door(_config),
    "configuration": Door(_configuration),
    "docker-archive": _archive(DockerArchive),
    "docker-config": Door(_docker_config),
    "erofs": Door(_erofs),
    "filter": _text(_filter),
    "frame": Door(_frame),
    "frame-file": Door(_frame_file),
    "hosts": Door(_hosts),
    "layer": Door(_layer, _repository_at, ("repository/objects",)),
    "layer-record": _record(LayerRecord),
    "logins": _json(parse_logins, "the logins"),
    "manifest": Door(_manifest),
    "oci-archive": _archive(OciArchive),
    "oci-layout": _json(check_version, "the layout"),
    "profile": _json(parse_profile, "the profile"),
    "proxies": _text(parse_proxies),
    "recipe": Door(lambda data, *_: parse_recipe(data)),
    "reference": _text(parse_reference),
    "repository": Door(_repository),
    "root-record": _record(RootRecord),
}


def plain(error: BaseException, place: Path) -> str:
    """What an error says, the same in every run."""
    said = str(error).replace(str(place), "{place}")
    return _TEMPORARY.sub("{temporary}", said)


def listing(place: Path, but: tuple[str, ...] = ()) -> set[str]:
    """Every path below a folder, without those below ``but``."""
    found = (
        os.path.relpath(Path(folder) / name, place)
        for folder, directories, files in os.walk(place)
        for name in (*directories, *files)
    )
    return {path for path in found if not path.startswith(but)} if but else set(found)
