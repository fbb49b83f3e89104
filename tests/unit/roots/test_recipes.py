from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.repositories import directory, file, make_root, tree
from thinfs.config import Config, RepositoryConfig
from thinfs.errors import FormatError, MissingError, UsageError
from thinfs.oci.delivery import write_layout
from thinfs.oci.model import Compression, Image, Platform
from thinfs.oci.recipe import MAX_RECIPE_BYTES
from thinfs.oci.thin import build_thin_image
from thinfs.roots.opening import SourcePool
from thinfs.roots.recipes import MAX_LAYER_BYTES, find_recipe, recipe_in_layer
from thinfs.store.layout import catalog_path

if TYPE_CHECKING:
    from tests.support.repositories import MadeRoot


def tar(name: str = "thin.json", data: bytes = b"{}", kind: bytes = tarfile.REGTYPE) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size, info.type = len(data), kind
        archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("compression", "pack"),
    [
        (Compression.NONE, bytes),
        (Compression.GZIP, gzip.compress),
        (Compression.ZSTD, zstandard.compress),
    ],
)
def test_a_layer_may_be_packed_as_images_are(compression: Compression, pack: object) -> None:
    assert callable(pack)
    assert recipe_in_layer(pack(tar()), compression, "x") == b"{}"


def test_a_layer_of_an_ordinary_image_is_told_apart() -> None:
    with pytest.raises(FormatError, match="no thin image"):
        recipe_in_layer(tar("etc/passwd"), Compression.NONE, "x")


def test_a_recipe_that_is_no_regular_file_is_refused() -> None:
    with pytest.raises(FormatError, match="no thin image"):
        recipe_in_layer(tar(data=b"", kind=tarfile.DIRTYPE), Compression.NONE, "x")


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_a_layer_that_grows_without_bound_is_refused(compression: Compression) -> None:
    bomb = tar(data=bytes(MAX_LAYER_BYTES * 3))
    pack = gzip.compress if compression is Compression.GZIP else zstandard.compress
    with pytest.raises(FormatError):
        recipe_in_layer(pack(bomb), compression, "x")


@given(st.binary(max_size=2000), st.sampled_from(Compression))
def test_any_bytes_give_a_recipe_or_one_kind_of_error(
    data: bytes, compression: Compression
) -> None:
    with contextlib.suppress(FormatError):
        assert len(recipe_in_layer(data, compression, "x")) <= MAX_RECIPE_BYTES + 1


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(repository=RepositoryConfig(path=str(tmp_path / "repository")))


@pytest.fixture
def root(tmp_path: Path) -> MadeRoot:
    return make_root(tmp_path / "repository", tree(directory(b""), file(b"f", b"x")))


@pytest.fixture
def thin(root: MadeRoot, tmp_path: Path) -> Path:
    original = Image(
        reference="docker.io/library/redis:4",
        manifest_digest="sha256:" + "1" * 64,
        platform=Platform.host(),
        config=b'{"os":"linux","architecture":"%b"}' % Platform.host().architecture.encode(),
        layers=(),
    )
    layout = tmp_path / "repository/oci"
    name = "docker.io/library/redis:4-thin"
    write_layout(build_thin_image(original, root.recipe), layout, name)
    return layout


@pytest.mark.parametrize(
    "name", ["redis:4-thin", "redis:4", "docker.io/library/redis:4-thin", "library/redis:4"]
)
def test_a_thin_image_of_the_local_repository_has_short_names(
    thin: Path, root: MadeRoot, config: Config, name: str
) -> None:
    assert find_recipe(name, config) == root.text


def test_a_layout_elsewhere_is_named_by_its_path(
    thin: Path, root: MadeRoot, config: Config, tmp_path: Path
) -> None:
    elsewhere = thin.rename(tmp_path / "elsewhere")
    assert find_recipe(f"oci:{elsewhere}:docker.io/library/redis:4-thin", config) == root.text
    with pytest.raises(MissingError):
        find_recipe(f"oci:{elsewhere}:other", config)


def test_a_recipe_may_be_a_file(root: MadeRoot, config: Config, tmp_path: Path) -> None:
    (tmp_path / "thin.json").write_text(root.text)
    assert find_recipe(str(tmp_path / "thin.json"), config) == root.text


def test_a_pool_leaves_out_what_is_not_allowed(config: Config) -> None:
    local = (config.repository.path and "file://" + config.repository.path) or ""
    pool = SourcePool(config.sources, config.repository)
    (only,) = pool.allowed(["https://example.org/thin", local])
    assert only.url == local
    assert pool.allowed([local]) == (only,)
    with pytest.raises(UsageError, match=r'add "https://example.org/thin/" to allow'):
        pool.allowed(["https://example.org/thin"])


async def test_a_root_that_the_local_repository_has_is_read_from_there_whatever_it_asks_for(
    config: Config,
) -> None:
    """An image that was loaded from a file names repositories that nobody here may ask."""
    elsewhere = ["https://example.org/thin"]
    digest = b"c" * 32
    pool = SourcePool(config.sources, config.repository)
    with pytest.raises(UsageError):
        await pool.for_root(elsewhere, digest)
    catalog = Path(config.repository.path) / catalog_path(digest)
    catalog.parent.mkdir(parents=True)
    catalog.touch()
    local = Path(config.repository.path).as_uri()
    assert [each.url for each in await pool.for_root(elsewhere, digest)] == [local]
    assert [each.url for each in await pool.for_root([local], digest)] == [local]
    await pool.aclose()


def test_a_pool_follows_the_configuration(config: Config) -> None:
    sources = replace(config.sources, allow=["https://example.org/"], mirrors=["https://mirror/"])
    pool = SourcePool(sources, config.repository)
    assert [each.url for each in pool.allowed(["https://example.org/thin"])] == [
        "https://example.org/thin"
    ]
    assert [each.url for each in pool.mirrors()] == ["https://mirror"]
