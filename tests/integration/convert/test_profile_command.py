"""``thinfs profile``: applied to what is converted already, shown, merged."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.boots import boot_of, booted
from tests.support.convert_command import convert, thinfs
from tests.support.converted import recipe_of
from tests.support.layouts import make_index, make_layout, put_image, tar_layer
from thinfs.store.profiles import Profile, Touched, parse_profile, render_profile

if TYPE_CHECKING:
    from pathlib import Path

FILES = {f"bin/tool{i}": b"tool %d\n" % i * 1000 for i in range(40)}
CHAIN = "sha256:" + "c" * 64


def write_profile(file: Path, *names: str, chain_id: str = CHAIN, runs: int = 1) -> Path:
    touched = tuple(
        Touched(hashlib.sha256(FILES[name]).hexdigest(), name, at_ms)
        for at_ms, name in enumerate(names)
    )
    file.write_bytes(render_profile(Profile(1, chain_id, "x", runs, 9, touched)))
    return file


@pytest.fixture
def image(folder: Path) -> str:
    """An image that is converted without a profile; its thin image's name."""
    make_layout(folder / "in", "x", [tar_layer(FILES)])
    name: str = convert(folder / "repo", f"oci:{folder}/in:x")["name"]
    return name


def apply(folder: Path, image: str, profile: Path, *options: str) -> dict[str, Any]:
    done = thinfs(
        *("profile", "apply", f"--repo={folder}/repo", "--no-containerd", "--json"),
        *options,
        image,
        profile,
    )
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def test_an_applied_profile_gives_the_thin_image_of_a_conversion_with_it(
    folder: Path, image: str
) -> None:
    profile = write_profile(folder / "profile", "bin/tool7", "bin/tool3")
    applied = apply(folder, image, profile)
    converted = convert(folder / "repo", f"oci:{folder}/in:x", "--profile", profile)
    assert applied["digest"] == converted["digest"]
    recipe: Any = recipe_of(folder / "repo" / "oci", image)
    boot = boot_of(folder / "repo", recipe["thinfs"]["root"]["boot"])
    assert [booted(folder / "repo", boot, each) for each in boot.contents] == [
        FILES["bin/tool7"],
        FILES["bin/tool3"],
    ]


def test_applying_reads_nothing_but_the_repository_and_keeps_the_root(
    folder: Path, image: str
) -> None:
    before: Any = recipe_of(folder / "repo" / "oci", image)
    (folder / "in").rename(folder / "gone")
    apply(folder, image, write_profile(folder / "profile", "bin/tool7"))
    after: Any = recipe_of(folder / "repo" / "oci", image)
    assert after["thinfs"]["root"].pop("boot") != before["thinfs"]["root"].pop("boot")
    assert after == before


def test_a_profile_is_found_under_the_originals_name_too(folder: Path, image: str) -> None:
    profile = write_profile(folder / "profile", "bin/tool7")
    apply(folder, image.removesuffix("-thin"), profile)
    shown = thinfs("profile", "show", f"--repo={folder}/repo", "--json", image)
    assert json.loads(shown.stdout)["touched"][0]["path"] == "bin/tool7"


def test_every_platform_of_an_index_is_given_its_boot_record(folder: Path) -> None:
    entries = [
        put_image(
            folder / "in",
            [tar_layer({**FILES, "arch": arch.encode()})],
            config={"architecture": arch, "os": "linux"},
        ).entry
        | {"platform": {"architecture": arch, "os": "linux"}}
        for arch in ("amd64", "arm64")
    ]
    make_index(folder / "in", "x", entries)
    done = convert(folder / "repo", f"oci:{folder}/in:x", "--all-platforms")
    profile = write_profile(folder / "profile", "bin/tool7")
    applied = apply(folder, done["name"], profile)
    assert len(applied["roots"]) == 2
    for root in applied["roots"]:
        assert len(boot_of(folder / "repo", root["boot"]).contents) == 1
    converted = convert(folder / "repo", f"oci:{folder}/in:x", "--all-platforms")
    assert converted["digest"] == applied["digest"]


def test_an_applied_image_goes_where_it_is_wanted(folder: Path, image: str) -> None:
    profile = write_profile(folder / "profile", "bin/tool7")
    done = apply(folder, image, profile, "--output", f"oci:{folder}/out:x")
    assert done["places"][-1] == f"oci:{folder}/out:x"
    [entry] = json.loads((folder / "out" / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == done["digest"]


def test_what_is_not_there_is_said_in_one_line(folder: Path, image: str) -> None:
    profile = write_profile(folder / "profile", "bin/tool7")
    for arguments, says in (
        (("apply", image, folder / "no-file"), "does not exist"),
        (("apply", "nowhere:1", profile), "has no image nowhere:1"),
        (("show", image), "has no boot profile of"),
    ):
        verb, *rest = arguments
        done = thinfs("profile", verb, f"--repo={folder}/repo", *rest, expect=3)
        assert says in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_root_that_was_converted_anew_is_not_mistaken_for_the_images(
    folder: Path, image: str
) -> None:
    [file] = (folder / "repo" / "roots").iterdir()
    record = json.loads(file.read_bytes())
    record["catalog"]["digest"] = CHAIN
    file.write_text(json.dumps(record))
    profile = write_profile(folder / "profile", "bin/tool7")
    done = thinfs("profile", "apply", f"--repo={folder}/repo", image, profile, expect=3)
    assert "convert the image again" in done.stderr


def test_merged_profiles_hold_what_most_runs_touch(folder: Path) -> None:
    one = write_profile(folder / "one", "bin/tool1", "bin/tool2")
    two = write_profile(folder / "two", "bin/tool2", "bin/tool1", runs=2)
    merged = folder / "merged"
    done = thinfs(
        "profile", "merge", one, two, write_profile(folder / "three", "bin/tool9"), "-o", merged
    )
    assert "2 contents of 4 runs" in done.stdout
    found = parse_profile(merged.read_bytes(), "merged")
    assert [each.path for each in found.touched] == ["bin/tool2", "bin/tool1"]
    thinfs("profile", "merge", one, folder / "three", "-o", merged, "--share", "0")
    assert len(parse_profile(merged.read_bytes(), "merged").touched) == 3
    other = write_profile(folder / "other", "bin/tool1", chain_id="sha256:" + "d" * 64)
    refused = thinfs("profile", "merge", one, other, "-o", merged, expect=2)
    assert "different images" in refused.stderr


def test_a_profile_is_shown_for_people(folder: Path) -> None:
    profile = write_profile(folder / "profile", *list(FILES)[:25])
    shown = thinfs("profile", "show", profile).stdout
    assert "25 contents are touched" in shown
    assert "/bin/tool0" in shown
    assert "and 5 more" in shown
    assert "and 5 more" not in thinfs("profile", "show", "--all", profile).stdout
