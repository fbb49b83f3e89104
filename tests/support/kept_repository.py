"""Looking into a repository from outside: is everything there, and nothing else?"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import zstandard

from catalog.reader import CatalogReader
from tests.support.converted import files_of, recipe_of
from thinfs.repository.check import check
from thinfs.repository.collect import Collected, Terms, collect
from thinfs.store.layout import catalog_path, raw_digest
from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thinfs.repository.problems import Checked, Mending

DAY_S = 86400.0
FOLDERS = ("objects", "catalogs", "metadata", "boots", "layers", "roots", "profiles", "oci/blobs")


class Quiet:
    """Hears of any job and says nothing."""

    def stage(self, what: str) -> None: ...

    def advance(self, files: int, size: int) -> None: ...


def checked(repository: Path, mending: Mending | None = None) -> Checked:
    """Check, in this process."""
    with TemporaryDirectory(prefix="thinfs-test-") as work:
        return check(repository, Path(work), mending, Quiet())


def collected(
    repository: Path, now_s: float, *, grace_s: float = 7 * DAY_S, dry_run: bool = False
) -> Collected:
    """Collect, in this process."""
    terms = Terms(grace_s=grace_s, wait_s=30, now_s=now_s, dry_run=dry_run)
    return collect(LocalRepository.open(repository), terms, Quiet())


@contextmanager
def catalog_of(repository: Path, digest: str) -> Iterator[CatalogReader]:
    """An open catalog of a repository."""
    packed = (repository / catalog_path(raw_digest(digest))).read_bytes()
    with TemporaryDirectory(prefix="thinfs-test-") as work:
        file = Path(work) / "catalog"
        file.write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(packed))
        with CatalogReader.open(file) as reader:
            yield reader


def names_in(repository: Path) -> list[str]:
    """The names of the thin images."""
    index = json.loads((repository / "oci/index.json").read_bytes())
    return [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]]


def bodies_of(repository: Path, name: str) -> dict[bytes, bytes]:
    """Every file of an image, read from objects whose digests are compared."""
    recipe: Any = recipe_of(repository / "oci", name)
    return files_of(repository, recipe["thinfs"]["root"]["catalog"]["digest"])


def stored_files(repository: Path) -> dict[str, int]:
    """Everything that could be collected, with its size."""
    return {
        str(file.relative_to(repository)): file.stat().st_size
        for folder in FOLDERS
        for file in (repository / folder).rglob("*")
        if file.is_file()
    }
