"""Whatever a profile says, a boot record leads to the bytes that the catalog leads to."""

from __future__ import annotations

import random
import stat
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.erofs import render
from catalog.merge import merge
from catalog.model import Entry, TreeKind
from catalog.reader import CatalogReader
from catalog.writer import CatalogWriter
from tests.support.boots import boot_of, booted
from thinfs.convert.boot import RootFiles, publish_boot
from thinfs.convert.image import workshop
from thinfs.convert.objects import ObjectWriter
from thinfs.convert.pack import Packer
from thinfs.store.layout import MAX_OBJECT_BYTES, object_path
from thinfs.store.local import LocalRepository
from thinfs.store.profiles import Profile, Touched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thinfs.convert.layer import Workshop
    from thinfs.store.boot import BootRecord

CHAIN = "sha256:" + "c" * 64
KIB = 1 << 10
# One content below the size from which on contents are cut, some above, one of them sparse.
BODIES = {
    b"d/small": random.Random(1).randbytes(900),
    b"d/e/other": random.Random(2).randbytes(100 * KIB),
    b"large": random.Random(3).randbytes(300 * KIB + 77),
    b"two": random.Random(4).randbytes(1500 * KIB),
    b"sparse": random.Random(5).randbytes(KIB) + bytes(3000 * KIB) + b"end",
    b"d/same": random.Random(1).randbytes(900),
}
NUMBERS = st.one_of(st.integers(0, 3100 * KIB), st.sampled_from([0, 1, KIB, 1024 * KIB, 1 << 40]))
RANGES = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5).map(tuple)


@contextmanager
def converted(folder: Path) -> Iterator[tuple[Workshop, RootFiles, dict[bytes, str]]]:
    """A root with BODIES, and the digest of each."""
    with workshop(LocalRepository.open_or_create(folder / "repo"), threads=1) as shop:
        digests = {}
        with (
            CatalogWriter(folder / "layer", TreeKind.LAYER) as catalog,
            ObjectWriter(shop.repository, shop.work, threads=1, level=1) as writer,
        ):
            packer = Packer(shop.repository, shop.index, writer)
            for path, body in BODIES.items():
                digest = packer.add([body], len(body))
                digests[path] = digest.hex()
                mode = stat.S_IFREG | 0o644
                catalog.add(Entry(path, mode=mode, size=len(body), content=digest))
            for packed in packer.finish():
                for ref in packed.objects:
                    catalog.add_object(ref)
                for content in packed.contents:
                    catalog.add_content(content)
            catalog.finish()
        with CatalogReader.open(folder / "layer") as layer:
            merge([layer], folder / "root")
        with CatalogReader.open(folder / "root") as root:
            render(root, folder / "image")
        metadata = shop.repository.publish_metadata(folder / "image", shop.work)
        yield shop, RootFiles(folder / "root", metadata, folder / "image"), digests


@st.composite
def profiles(draw: st.DrawFn) -> tuple[list[tuple[bytes, bool]], list[object], bool]:
    """Paths with whether their digest is still right, their ranges, and of the metadata image."""
    paths = draw(st.lists(st.sampled_from([*BODIES, b"gone"]), max_size=8))
    touched = [(path, draw(st.booleans())) for path in paths]
    return touched, [draw(RANGES) for _ in range(len(paths) + 1)], draw(st.booleans())


@pytest.mark.expects_log("nothing of the boot profile")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profiles())
def test_every_content_and_the_metadata_image_are_right_and_all_that_was_touched_is_ordered(
    drawn: tuple[list[tuple[bytes, bool]], list[tuple[tuple[int, int], ...]], bool],
) -> None:
    touched, ranges, same_image = drawn
    with TemporaryDirectory() as name, converted(Path(name)) as (shop, root, digests):
        profile = Profile(
            1,
            CHAIN,
            "x",
            1,
            0,
            tuple(
                Touched(digests.get(path, "0" * 64) if known else "0" * 64, path.decode(), 0, parts)
                for (path, known), parts in zip(touched, ranges, strict=False)
            ),
            root.metadata.digest if same_image else "",
            ranges[-1],
        )
        published = publish_boot(root, profile, shop)
        named = {
            "digest": published.digest,
            "size": published.size,
            "stored_size": published.stored_size,
        }
        boot = boot_of(shop.repository.path, named)
        bodies = [booted(shop.repository.path, boot, each) for each in boot.contents]
        assert bodies == list(dict.fromkeys(BODIES[path] for path, _ in touched if path in BODIES))
        image = booted(shop.repository.path, boot, boot.metadata)
        assert image == root.image.read_bytes()
        assert_ordered(shop.repository.path, boot, touched, ranges)


def assert_ordered(
    repository: Path,
    boot: BootRecord,
    touched: list[tuple[bytes, bool]],
    ranges: list[tuple[tuple[int, int], ...]],
) -> None:
    """Everything that was touched lies in what is to be fetched, or is a hole."""
    order = set(boot.order)
    assert len(order) == len(boot.order)
    for (path, _), parts in zip(touched, ranges, strict=False):
        body = BODIES.get(path)
        if body is None:
            continue
        [content] = [each for each in boot.contents if booted(repository, boot, each) == body]
        for offset, length in parts or ((0, len(body)),):
            for extent in content.extents:
                if extent.offset < offset + length and offset < extent.offset + extent.length:
                    assert extent.object in order
    for each in boot.order:
        frame = (repository / object_path(bytes.fromhex(boot.objects[each].digest))).read_bytes()
        assert zstandard.get_frame_parameters(frame).content_size <= MAX_OBJECT_BYTES
