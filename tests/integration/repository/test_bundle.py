"""save and load: images travel in one file, arrive whole or not at all, and bring no surprises."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import pytest

from tests.support.kept_repository import Quiet, bodies_of, checked, names_in, stored_files
from tests.support.small_images import convert_all, convert_here, image_name, make_images
from tests.support.wait import wait_until
from thinfs.errors import FormatError, IntegrityError, ThinfsError
from thinfs.repository.load import Loaded, load
from thinfs.repository.tar import members, write_end, write_member
from thinfs.store.local import LocalRepository
from thinfs.store.profiles import Profile, Touched, render_profile

if TYPE_CHECKING:
    from pathlib import Path

Change = Callable[[list[tuple[str, bytes]]], object]


class Silent(Quiet):
    def total(self, files: int, size: int) -> None: ...


def argv(verb: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "thinfs.cli.main", verb, *map(str, arguments)]


def run(verb: str, *arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv(verb, *arguments), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == expect, done.stderr
    return done


def load_file(repository: Path, bundle: IO[bytes]) -> Loaded:
    return load(LocalRepository.open_or_create(repository), bundle, 1, Silent())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of five images, and a bundle of two of them."""
    base = tmp_path_factory.mktemp("made")
    images = make_images(base / "in", 5)
    convert_all(base / "repo", images)
    names = [image_name(image) for image in (images[0], images[3])]
    run("save", "--repo", base / "repo", *names, "-o", base / "bundle.tar")
    return base


@pytest.fixture
def names(made: Path) -> list[str]:
    return [name for name in names_in(made / "repo") if ":0-" in name or ":3-" in name]


def test_what_was_saved_is_loaded(made: Path, names: list[str], tmp_path: Path) -> None:
    done = run("load", "--no-containerd", "--json", "--repo", tmp_path / "r", made / "bundle.tar")
    assert [each["name"] for each in json.loads(done.stdout)["images"]] == names
    assert names_in(tmp_path / "r") == names
    for name in names:
        assert bodies_of(tmp_path / "r", name) == bodies_of(made / "repo", name)
    found = checked(tmp_path / "r")
    assert found.broken == 0
    assert {problem.path.partition("/")[0] for problem in found.problems} == {"layers", "roots"}


def test_the_same_images_give_the_same_bytes_through_a_pipe_too(
    made: Path, names: list[str]
) -> None:
    done = subprocess.run(
        argv("save", "--repo", made / "repo", *names, "-o", "-"), capture_output=True, check=True
    )
    assert done.stdout == (made / "bundle.tar").read_bytes()


def test_nothing_is_in_a_bundle_twice(made: Path) -> None:
    with tarfile.open(made / "bundle.tar", "r:") as tar:
        found = tar.getnames()
    assert found[0] == "thinfs-bundle.json"
    assert len(set(found)) == len(found)


def test_a_bundle_is_an_oci_archive(made: Path, names: list[str]) -> None:
    done = run("inspect", "--repo", made / "repo", f"oci-archive:{made / 'bundle.tar'}:{names[1]}")
    assert "localhost/in:3@sha256:" in done.stdout


def test_what_is_there_already_is_passed_over(made: Path, tmp_path: Path) -> None:
    bundle = (made / "bundle.tar").read_bytes()
    first = load_file(tmp_path / "r", io.BytesIO(bundle))
    before = _times(tmp_path / "r")
    again = load_file(tmp_path / "r", io.BytesIO(bundle))
    assert (again.new_files, again.present_files) == (0, first.new_files)
    assert _times(tmp_path / "r") == before


def _times(repository: Path) -> dict[str, int]:
    return {path: (repository / path).stat().st_mtime_ns for path in stored_files(repository)}


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_load_that_broke_off_goes_on_where_it_was(
    made: Path, names: list[str], tmp_path: Path, part: float
) -> None:
    bundle = (made / "bundle.tar").read_bytes()
    with pytest.raises(FormatError, match="ends too early"):
        load_file(tmp_path / "r", io.BytesIO(bundle[: int(len(bundle) * part)]))
    assert not (tmp_path / "r/oci").exists()
    arrived = len(stored_files(tmp_path / "r"))
    done = load_file(tmp_path / "r", io.BytesIO(bundle))
    assert done.present_files == arrived
    assert names_in(tmp_path / "r") == names
    assert checked(tmp_path / "r").broken == 0


def test_a_load_that_is_killed_leaves_nothing_half(
    made: Path, names: list[str], tmp_path: Path
) -> None:
    bundle = (made / "bundle.tar").read_bytes()
    for part in (0.2, 0.6, 0.8):
        process = subprocess.Popen(
            argv("load", "--no-containerd", "--repo", tmp_path / "r", "-"),
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        process.stdin.write(bundle[: int(len(bundle) * part)])
        process.stdin.flush()
        wait_until(lambda: any((tmp_path / "r").glob("objects/*/*")), "objects to arrive")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert checked(tmp_path / "r").problems == []
        assert not (tmp_path / "r/oci").exists()
    load_file(tmp_path / "r", io.BytesIO(bundle))
    assert names_in(tmp_path / "r") == names
    assert list((tmp_path / "r/tmp").iterdir()) == []


def test_loaded_images_are_removed_as_converted_ones_are(
    made: Path, names: list[str], tmp_path: Path
) -> None:
    shutil.copytree(made / "repo", tmp_path / "r")
    load_file(tmp_path / "r", io.BytesIO((made / "bundle.tar").read_bytes()))
    assert not (tmp_path / "r/removed.json").exists()
    run("rm", "--repo", tmp_path / "r", *names)
    assert len(json.loads((tmp_path / "r/removed.json").read_bytes())) == 2


def test_a_damaged_object_is_not_saved(made: Path, names: list[str], tmp_path: Path) -> None:
    shutil.copytree(made / "repo", tmp_path / "r")
    with tarfile.open(made / "bundle.tar", "r:") as tar:
        victim = [name for name in tar.getnames() if name.startswith("objects/")][-1]
    (tmp_path / "r" / victim).write_bytes(b"damaged")
    done = run("save", "--repo", tmp_path / "r", *names, "-o", tmp_path / "b.tar", expect=5)
    assert victim.rpartition("/")[2] in done.stderr or "damaged" in done.stderr
    assert not (tmp_path / "b.tar").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_profile_is_not_saved_where_there_is_none(made: Path, names: list[str]) -> None:
    done = run("save", "--profile", "--repo", made / "repo", *names, "-o", "/dev/null", expect=2)
    assert "has no boot profile" in done.stderr


@pytest.fixture(scope="module")
def profiled(made: Path) -> tuple[Path, str]:
    """A repository with an image of which a start was recorded, and the image's name."""
    image = f"oci:{made / 'in'}:0"
    plain = convert_here(made / "profiled", image)
    bodies = bodies_of(made / "profiled", plain.name)
    touched = [hashlib.sha256(bodies[path]).hexdigest() for path in sorted(bodies)[:3]]
    chain_id = plain.images[0].recipe.thinfs.root.chain_id if plain.images[0].recipe.thinfs else ""
    profile = Profile(1, chain_id, "x", 1, 9, tuple(Touched(each) for each in touched))
    (made / "profile").write_bytes(render_profile(profile))
    convert_here(made / "profiled", image, profile=made / "profile")
    return made / "profiled", plain.name


def test_a_bundle_of_a_start_is_small_and_can_be_filled_up_later(
    profiled: tuple[Path, str], tmp_path: Path
) -> None:
    repository, name = profiled
    for part in ("all", "profile"):
        run("save", f"--{part}", "--repo", repository, name, "-o", tmp_path / f"{part}.tar")
    assert (tmp_path / "profile.tar").stat().st_size < (tmp_path / "all.tar").stat().st_size / 2
    load_file(tmp_path / "r", io.BytesIO((tmp_path / "profile.tar").read_bytes()))
    assert len(list((tmp_path / "r/profiles").iterdir())) == 1
    missing = checked(tmp_path / "r")
    assert missing.broken > 0
    assert {problem.what for problem in missing.problems} == {"missing"}
    run("check", "--repair", "--from", repository, "--repo", tmp_path / "r")
    assert bodies_of(tmp_path / "r", name) == bodies_of(repository, name)


def test_the_whole_bundle_has_what_a_start_needs_first(
    profiled: tuple[Path, str], tmp_path: Path
) -> None:
    repository, name = profiled
    for part in ("all", "profile"):
        run("save", f"--{part}", "--repo", repository, name, "-o", tmp_path / f"{part}.tar")
    with tarfile.open(tmp_path / "all.tar") as whole, tarfile.open(tmp_path / "profile.tar") as few:
        first = [each for each in few.getnames() if each.startswith("objects/")]
        every = [each for each in whole.getnames() if each.startswith("objects/")]
    assert every[: len(first)] == first
    load_file(tmp_path / "r", io.BytesIO((tmp_path / "all.tar").read_bytes()))
    assert checked(tmp_path / "r").broken == 0


def changed(bundle: bytes, change: Change) -> io.BytesIO:
    """The bundle with its list of files changed."""
    files = [(each.name, each.read(1 << 30)) for each in members(io.BytesIO(bundle))]
    change(files)
    stream = io.BytesIO()
    for name, data in files:
        write_member(stream, name, data)
    write_end(stream)
    stream.seek(0)
    return stream


def replace(prefix: str, data: Callable[[bytes], bytes]) -> Change:
    """Change the last file whose name begins so."""

    def change(files: list[tuple[str, bytes]]) -> None:
        at = max(n for n, (name, _) in enumerate(files) if name.startswith(prefix))
        files[at] = (files[at][0], data(files[at][1]))

    return change


def drop(prefix: str) -> Change:
    def change(files: list[tuple[str, bytes]]) -> None:
        del files[max(n for n, (name, _) in enumerate(files) if name.startswith(prefix))]

    return change


def add(name: str, data: bytes = b"x") -> Change:
    return lambda files: files.insert(3, (name, data))


def edit(**values: Any) -> Change:
    return replace("thinfs-bundle", lambda data: json.dumps(json.loads(data) | values).encode())


def flip(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


REFUSED: dict[str, tuple[Change, str]] = {
    "damaged object": (replace("objects/", flip), "is damaged"),
    "damaged catalog": (replace("catalogs/", flip), "is damaged"),
    "damaged metadata": (replace("metadata/", flip), "is damaged"),
    "damaged blob": (replace("blobs/", flip), "expected sha256"),
    "empty object": (replace("objects/", lambda _: b""), "is damaged"),
    "oversized object": (replace("objects/", lambda _: bytes(1_100_000)), "more than"),
    "lacks an object": (drop("objects/"), "does not hold all of"),
    "lacks a catalog": (drop("catalogs/"), "does not hold all of"),
    "lacks a blob": (drop("blobs/"), "expected sha256"),
    "lacks the index": (drop("index.json"), "index.json"),
    "other file first": (lambda files: files.reverse(), "does not begin with"),
    "way out": (add("../../etc/cron.d/x"), "does not belong"),
    "absolute path": (add("/etc/passwd"), "does not belong"),
    "layer record": (add("layers/" + "ab" * 32, b"{}"), "does not belong"),
    "root record": (add("roots/" + "ab" * 32, b"{}"), "does not belong"),
    "private file": (add("index.sqlite"), "does not belong"),
    "wrong folder": (add("objects/00/" + "ab" * 32), "does not belong"),
    "profile of something else": (add("profiles/" + "ab" * 32, b"{}"), "is damaged"),
    "later version": (edit(version=2), "version 2"),
    "no images": (edit(images=[]), "malformed"),
    "strange name": (
        edit(images=[{"name": "a\nb", "digest": "sha256:" + "0" * 64, "part": "all"}]),
        "not the full name",
    ),
    "name that its index lacks": (
        edit(images=[{"name": image_name("x:9"), "digest": "sha256:" + "0" * 64, "part": "all"}]),
        "does not name",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bundle_that_is_not_what_it_should_be_gives_no_image(
    made: Path, tmp_path: Path, case: str
) -> None:
    change, message = REFUSED[case]
    stream = changed((made / "bundle.tar").read_bytes(), change)
    with pytest.raises(ThinfsError, match=message) as error:
        load_file(tmp_path / "r", stream)
    assert isinstance(error.value, FormatError | IntegrityError)
    assert not (tmp_path / "r/oci").exists()
    assert checked(tmp_path / "r").problems == []
    inside = {"thinfs.json", "lock", "gate", "tmp", "objects", "catalogs", "metadata", "boots"}
    assert {path.name for path in (tmp_path / "r").iterdir()} <= inside
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_saving_and_loading_bring_an_image_from_one_process_to_another_without_a_file(
    made: Path, names: list[str], tmp_path: Path
) -> None:
    with subprocess.Popen(
        argv("save", "--repo", made / "repo", names[0], "-o", "-"), stdout=subprocess.PIPE
    ) as saving:
        loading = subprocess.run(
            argv("load", "--no-containerd", "--repo", tmp_path / "r", "-"),
            stdin=saving.stdout,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert (saving.returncode, loading.returncode) == (0, 0), loading.stderr
    assert names_in(tmp_path / "r") == [names[0]]
