"""Conversions with boot profiles: what boot records promise, and what is stored for them."""

from __future__ import annotations

import hashlib
import json
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zstandard

from tests.support.boots import boot_of, booted, root_record
from tests.support.convert_command import convert, thinfs
from tests.support.converted import files_of, recipe_of
from tests.support.layouts import make_layout, tar_layer
from thinfs.store.layout import object_path
from thinfs.store.profiles import Profile, Touched, render_profile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from thinfs.store.boot import BootRecord

MIB = 1 << 20


def body(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


SMALL = {
    f"usr/lib/p{i:02d}/m{j}.py": body(f"{i}.{j}", 3000 + i * j) for i in range(60) for j in range(8)
}
LARGE = {"usr/lib/big.so": body("big", 5 * MIB + 99), "usr/lib/other.so": body("other", 3 * MIB)}
FILES = {**SMALL, **LARGE}


def touched(path: str, at_ms: int = 0, *ranges: tuple[int, int]) -> Touched:
    return Touched(hashlib.sha256(FILES[path]).hexdigest(), path, at_ms, ranges)


def write_profile(file: Path, touches: Iterable[Touched], **more: Any) -> Path:
    plain = Profile(1, "sha256:" + "c" * 64, "x", 1, 9, tuple(touches))
    file.write_bytes(render_profile(msgspec.structs.replace(plain, **more)))
    return file


START = [
    touched("usr/lib/p40/m3.py"),
    touched("usr/lib/big.so", 1, (2 * MIB - 5000, 9000), (4 * MIB, 70_000)),
    *(touched(f"usr/lib/p{i:02d}/m1.py", 2) for i in range(30)),
    touched("usr/lib/other.so", 3),
]


def started(folder: Path, *touches: Touched, **more: Any) -> tuple[dict[str, Any], BootRecord]:
    """Convert FILES with a profile; the image's values and its boot record."""
    make_layout(folder / "in", "x", [tar_layer(FILES)])
    profile = write_profile(folder / "profile", touches or START, **more)
    done = convert(folder / "repo", f"oci:{folder}/in:x", "--profile", profile)
    recipe: Any = recipe_of(folder / "repo" / "oci", done["name"])
    assert recipe["thinfs"]["root"]["boot"] == {
        key: root_record(folder / "repo")["boot"][key] for key in ("digest", "size", "stored_size")
    }
    return done["images"][0], boot_of(folder / "repo")


def fetched(repository: Path, boot: BootRecord) -> list[bytes]:
    """What a start fetches, in order."""
    return [
        zstandard.decompress(
            (repository / object_path(bytes.fromhex(boot.objects[each].digest))).read_bytes()
        )
        for each in boot.order
    ]


def test_a_boot_record_lists_what_is_touched_in_order(folder: Path) -> None:
    _, boot = started(folder)
    assert [each.digest for each in boot.contents] == [each.content for each in START]


def test_every_content_is_read_whole_through_the_boot_record(folder: Path) -> None:
    _, boot = started(folder)
    for listed, asked in zip(boot.contents, START, strict=True):
        assert booted(folder / "repo", boot, listed) == FILES[asked.path]
    booted(folder / "repo", boot, boot.metadata)


def test_what_is_touched_is_all_that_a_start_fetches(folder: Path) -> None:
    _, boot = started(folder)
    metadata = {each.object for each in boot.metadata.extents}
    bundles = [
        whole
        for number, whole in zip(boot.order, fetched(folder / "repo", boot), strict=True)
        if number not in metadata
    ]
    sizes = {each.path: len(FILES[each.path]) for each in START}
    sizes["usr/lib/big.so"] = 9000 + 70_000
    pages = 4 * 2 * 4096  # parts begin and end at pages
    assert sum(sizes.values()) <= sum(map(len, bundles)) <= sum(sizes.values()) + pages


def test_touched_parts_of_a_large_content_lie_in_what_is_fetched(folder: Path) -> None:
    _, boot = started(folder)
    [big] = [each for each in boot.contents if each.size == len(FILES["usr/lib/big.so"])]
    order = set(boot.order)
    for offset, length in START[1].ranges:
        for byte in (offset, offset + length - 1):
            [extent] = [e for e in big.extents if e.offset <= byte < e.offset + e.length]
            assert extent.object in order
    assert {e.object for e in big.extents} - order  # the rest stays where it was


def test_metadata_comes_first_and_is_a_part_of_the_image(folder: Path) -> None:
    _, boot = started(folder)
    metadata = {each.object for each in boot.metadata.extents}
    kinds = [number in metadata for number in boot.order]
    assert kinds == sorted(kinds, reverse=True)
    assert kinds[0]
    assert metadata - set(boot.order)


def test_recorded_parts_of_the_metadata_image_are_what_comes_first(folder: Path) -> None:
    make_layout(folder / "in", "x", [tar_layer(FILES)])
    convert(folder / "repo", f"oci:{folder}/in:x")
    image = root_record(folder / "repo")["metadata"]["digest"]
    _, boot = started(folder, metadata=image, metadata_ranges=((8192, 10), (40_960, 4096)))
    hot = [e for e in boot.metadata.extents if e.object in boot.order]
    assert [(e.offset, e.length) for e in hot] == [(8192, 4096), (40_960, 4096)]


def test_the_catalog_is_the_same_with_and_without_a_profile(folder: Path) -> None:
    with_profile, _ = started(folder)
    [without] = convert(folder / "plain", f"oci:{folder}/in:x")["images"]
    assert with_profile["catalog"] == without["catalog"]
    assert files_of(folder / "repo", without["catalog"]) == {
        path.encode(): body for path, body in FILES.items()
    }


def test_the_same_profile_gives_the_same_boot_record(folder: Path) -> None:
    started(folder)
    before = root_record(folder / "repo")
    convert(folder / "repo", f"oci:{folder}/in:x", "--no-profile")
    assert root_record(folder / "repo") != before
    convert(folder / "repo", f"oci:{folder}/in:x", "--profile", folder / "profile")
    assert root_record(folder / "repo") == before


def test_a_profile_becomes_the_images_own(folder: Path) -> None:
    started(folder)
    before = root_record(folder / "repo")
    for path in (folder / "repo" / "roots").iterdir():
        path.unlink()
    convert(folder / "repo", f"oci:{folder}/in:x")
    assert root_record(folder / "repo") == before


def test_without_a_profile_in_the_repository_a_boot_record_stays(folder: Path) -> None:
    started(folder)
    before = root_record(folder / "repo")
    for path in (folder / "repo" / "profiles").iterdir():
        path.unlink()
    convert(folder / "repo", f"oci:{folder}/in:x")
    assert root_record(folder / "repo") == before
    convert(folder / "repo", f"oci:{folder}/in:x", "--no-profile")
    assert boot_of(folder / "repo").contents == ()


def test_an_updated_image_starts_with_what_is_known_of_the_one_before(folder: Path) -> None:
    """One package has changed, another one is gone, and the image has a new chain of layers."""
    origin = "localhost/in:x@sha256:" + "0" * 64
    make_layout(folder / "in", "x", [tar_layer(FILES)])
    profile = write_profile(folder / "profile", START)
    profile.write_bytes(
        profile.read_bytes().replace(b'"origin":"x"', f'"origin":"{origin}"'.encode())
    )
    convert(folder / "repo", f"oci:{folder}/in:x", "--profile", profile)
    changed = {path: b"new " + FILES[path] for path in SMALL if path.startswith("usr/lib/p40/")}
    gone = {path for path in SMALL if path.startswith("usr/lib/p07/")}
    updated = {path: body for path, body in (FILES | changed).items() if path not in gone}
    make_layout(folder / "in", "x", [tar_layer(updated)])
    done = convert(folder / "repo", f"oci:{folder}/in:x")
    recipe: Any = recipe_of(folder / "repo" / "oci", done["name"])
    boot = boot_of(folder / "repo", recipe["thinfs"]["root"]["boot"])
    paths = [each.path for each in START if each.path in updated]
    assert len(paths) == len(START) - 1
    for listed, path in zip(boot.contents, paths, strict=True):
        assert booted(folder / "repo", boot, listed) == updated[path]
    booted(folder / "repo", boot, boot.metadata)
    assert len(list((folder / "repo" / "profiles").iterdir())) == 2


def test_one_changed_file_stores_its_bundle_and_metadata_again_and_nothing_else(
    folder: Path,
) -> None:
    started(folder)
    convert(folder / "repo", f"oci:{folder}/in:x", "--no-profile")
    before = set((folder / "repo").glob("*/*/*"))
    make_layout(folder / "in", "y", [tar_layer({**FILES, "usr/lib/p50/m2.py": b"changed\n"})])
    [image] = convert(folder / "repo", f"oci:{folder}/in:y", "--no-profile")["images"]
    assert image["new_objects"] == 1
    new = sorted(set((folder / "repo").glob("*/*/*")) - before)
    kinds = [path.relative_to(folder / "repo").parts[0] for path in new if "oci" not in path.parts]
    # the file's bundle, the pieces of metadata with its inode and with the superblock (whose UUID
    # follows from all other bytes), and a catalog each of the layer and the root
    assert kinds == ["boots", "catalogs", "catalogs", "metadata", *["objects"] * 3]


def test_one_changed_file_under_a_profile_stores_few_bundles_again(folder: Path) -> None:
    everything = [touched(path) for path in SMALL]
    _, first = started(folder, *everything)
    make_layout(folder / "in", "y", [tar_layer({**FILES, "usr/lib/p50/m2.py": body("new", 3100)})])
    profile = folder / "profile"
    done = convert(folder / "repo", f"oci:{folder}/in:y", "--profile", profile)
    recipe: Any = recipe_of(folder / "repo" / "oci", done["name"])
    second = boot_of(folder / "repo", recipe["thinfs"]["root"]["boot"])
    old, new = ({boot.objects[i].digest for i in boot.order} for boot in (first, second))
    assert len(old) >= 3
    assert len(new - old) <= 2


def test_an_image_whose_objects_are_damaged_gives_no_boot_record(folder: Path) -> None:
    make_layout(folder / "in", "x", [tar_layer(FILES)])
    convert(folder / "repo", f"oci:{folder}/in:x")
    before = root_record(folder / "repo")
    for path in (folder / "repo" / "objects").glob("*/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    profile = write_profile(folder / "profile", START)
    done = thinfs(
        *("convert", "--no-containerd", "--repo", folder / "repo", f"oci:{folder}/in:x"),
        *("--profile", profile),
        expect=5,
    )
    assert "is damaged" in done.stderr
    assert "thinfs check --repair" in done.stderr
    assert root_record(folder / "repo") == before


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [(None, 3, "does not exist"), (b"{}", 4, "is not a boot profile")],
)
def test_a_file_that_is_no_profile_is_refused_before_anything_is_done(
    folder: Path, text: bytes | None, code: int, says: str
) -> None:
    make_layout(folder / "in", "x", [tar_layer(SMALL)])
    if text is not None:
        (folder / "profile").write_bytes(text)
    command = ("convert", "--no-containerd", "--repo", folder / "repo", f"oci:{folder}/in:x")
    done = thinfs(*command, "--profile", folder / "profile", expect=code)
    assert says in done.stderr
    assert not (folder / "repo").exists()


def test_a_profile_that_does_not_fit_at_all_is_said(folder: Path) -> None:
    make_layout(folder / "in", "x", [tar_layer(SMALL)])
    profile = write_profile(folder / "profile", [Touched("0" * 64, "opt/other")])
    command = ("convert", "--no-containerd", "--repo", folder / "repo", f"oci:{folder}/in:x")
    done = thinfs(*command, "--profile", profile)
    assert "nothing of the boot profile of x is in this image" in done.stderr
    boot = boot_of(folder / "repo")
    assert boot.contents == ()
    booted(folder / "repo", boot, boot.metadata)


def test_a_damaged_profile_in_the_repository_is_gone_on_without(folder: Path) -> None:
    started(folder)
    [file] = (folder / "repo" / "profiles").iterdir()
    file.write_text("{")
    for path in (folder / "repo" / "roots").iterdir():
        path.unlink()
    done = thinfs(
        *("convert", "--no-containerd", "--json", "--repo", folder / "repo"),
        f"oci:{folder}/in:x",
    )
    assert "is not a boot profile" in done.stderr
    assert json.loads(done.stdout)["images"]
    assert boot_of(folder / "repo").contents == ()
