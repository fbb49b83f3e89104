"""What is damaged is found, whatever it is, and put right from another repository."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.kept_repository import bodies_of, checked, names_in, stored_files
from tests.support.small_images import convert_all, make_images

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of five images; copied by each test."""
    base = tmp_path_factory.mktemp("made")
    convert_all(base / "repo", make_images(base / "in", 5))
    return base / "repo"


@pytest.fixture
def repository(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "repo")
    return tmp_path / "repo"


def run_check(repository: Path, *options: str | Path) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "thinfs.cli.main",
            "check",
            "--json",
            "--repo",
            repository,
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode in {0, 5}, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_whole_repository_has_no_problems(repository: Path) -> None:
    code, found = run_check(repository)
    assert (code, found["problems"], found["images"]) == (0, [], 5)
    assert found["files"] == len(stored_files(repository)) + 3
    assert found["bytes"] > sum(stored_files(repository).values())


def damage(file: Path, rng: random.Random) -> None:
    """Flip one bit, or cut off a part, or all."""
    body = bytearray(file.read_bytes())
    way = rng.choice(["flip", "flip", "cut", "empty"])
    if way == "flip":
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    elif way == "cut":
        del body[rng.randrange(len(body)) :]
    else:
        body.clear()
    file.write_bytes(body)


@pytest.mark.parametrize("seed", range(3))
def test_a_tree_damaged_in_twenty_places_is_mended_file_by_file(
    repository: Path, made: Path, seed: int
) -> None:
    rng = random.Random(seed)
    bodies = {name: bodies_of(repository, name) for name in names_in(repository)}
    victims = rng.sample(sorted(stored_files(repository)), 20)
    for victim in victims:
        damage(repository / victim, rng)
    code, found = run_check(repository)
    reported = {problem["path"] for problem in found["problems"]}
    assert reported <= set(victims)  # what only a damaged file names may be out of sight
    assert {victim for victim in victims if victim.startswith("objects/")} <= reported
    assert code == 5
    code, found = run_check(repository, "--repair", "--from", made)
    mended = {problem["path"] for problem in found["problems"] if problem["mended_from"]}
    assert (code, found["broken"]) == (0, 0)
    assert mended == _really_damaged(victims, mended)
    code, found = run_check(repository)
    assert (code, found["problems"]) == (0, [])
    assert {name: bodies_of(repository, name) for name in bodies} == bodies
    for victim in victims:
        assert (repository / victim).read_bytes() == (made / victim).read_bytes()


def _really_damaged(victims: list[str], mended: set[str]) -> set[str]:
    """All victims; flipping a bit of a record may leave a record that says the same."""
    records = ("layers/", "roots/", "profiles/")
    return {victim for victim in victims if not victim.startswith(records) or victim in mended}


@pytest.mark.parametrize(
    "path", ["thinfs.json", "oci/oci-layout", "oci/index.json", "layers/*", "roots/*"]
)
def test_a_damaged_file_without_a_hash_is_found_and_mended(
    repository: Path, made: Path, path: str
) -> None:
    victim = next(repository.glob(path))
    victim.write_bytes(victim.read_bytes()[:-20])
    assert run_check(repository)[0] == 5
    assert run_check(repository, "--repair", "--from", made)[0] == 0
    assert checked(repository).problems == []


@pytest.mark.parametrize("path", ["objects", "catalogs", "metadata", "boots", "oci/blobs"])
def test_a_missing_file_is_found_and_fetched(repository: Path, made: Path, path: str) -> None:
    victim = min(name for name in stored_files(repository) if name.startswith(path))
    (repository / victim).unlink()
    found = checked(repository)
    assert [(problem.path, problem.what) for problem in found.problems] == [(victim, "missing")]
    assert found.problems[0].owner
    assert run_check(repository, "--repair", "--from", made)[0] == 0
    assert (repository / victim).read_bytes() == (made / victim).read_bytes()


def test_a_missing_record_harms_nobody_and_is_fetched_all_the_same(
    repository: Path, made: Path
) -> None:
    victim = next((repository / "layers").iterdir())
    victim.unlink()
    found = checked(repository)
    assert [problem.harm for problem in found.problems] == ["note"]
    assert found.broken == 0
    assert run_check(repository, "--repair", "--from", made)[0] == 0
    assert victim.read_bytes() == (made / "layers" / victim.name).read_bytes()


def test_a_source_that_is_damaged_in_the_same_place_mends_nothing_and_the_next_one_does(
    repository: Path, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "bad")
    victim = next(name for name in stored_files(repository) if name.startswith("objects"))
    for place in (repository, tmp_path / "bad"):
        damage(place / victim, random.Random(1))
    code, found = run_check(repository, "--repair", "--from", tmp_path / "bad")
    assert (code, found["broken"]) == (5, 1)
    code, found = run_check(repository, "--repair", "--from", tmp_path / "bad", "--from", made)
    assert [problem["mended_from"] for problem in found["problems"]] == [made.as_uri()]


def test_an_object_that_nobody_names_is_checked_too(repository: Path) -> None:
    """A converter would take it for what its name says."""
    planted = repository / "objects/ab" / ("ab" * 32)
    planted.parent.mkdir(exist_ok=True)
    planted.write_bytes(b"no frame")
    [problem] = checked(repository).problems
    assert (problem.path, problem.owner, problem.harm) == (f"objects/ab/{'ab' * 32}", "", "broken")


def test_files_that_are_none_of_a_repository_are_noted(repository: Path) -> None:
    (repository / "objects/zz").mkdir()
    (repository / "objects/zz/core").write_bytes(b"x")
    [problem] = checked(repository).problems
    assert (problem.what, problem.harm) == ("not a file of a repository", "note")


def test_a_record_under_another_name_is_broken(repository: Path) -> None:
    one, other = sorted((repository / "layers").iterdir())[:2]
    shutil.copy(one, other)
    assert [problem.path for problem in checked(repository).problems] == [f"layers/{other.name}"]


def test_repair_needs_a_source(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "thinfs.cli.main", "check", "--repair", "--repo", repository],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--repair needs --from" in done.stderr
