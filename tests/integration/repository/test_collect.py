"""Images are removed first; what only they needed goes later, and nothing else ever."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.kept_repository import (
    DAY_S,
    Quiet,
    bodies_of,
    checked,
    collected,
    names_in,
    stored_files,
)
from tests.support.small_images import convert_all, convert_here, image_name, make_images
from tests.support.wait import wait_until
from thinfs.errors import IntegrityError, MissingError, StoreError
from thinfs.oci.kept import remove_images, removed_images
from thinfs.repository.collect import Terms, collect
from thinfs.store.local import LocalRepository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What it has converted it removes again, mostly: the next converter finds what may go any moment.
CONVERTER = """
import random, sys, time
from pathlib import Path
from tests.support.small_images import convert_here, image_name
from thinfs.oci.kept import remove_images
repository, stop, images = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
rng = random.Random(images[0])
while not stop.exists():
    image = rng.choice(images)
    convert_here(repository, image)
    if rng.random() < 0.7:
        remove_images(repository, [image_name(image)], int(time.time()))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A repository of six images; copied by each test."""
    base = tmp_path_factory.mktemp("made")
    images = make_images(base / "in", 6)
    convert_all(base / "repo", images)
    return base / "repo", images


@pytest.fixture
def repository(made: tuple[Path, list[str]], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "repo")
    return tmp_path / "repo"


@pytest.fixture
def images(made: tuple[Path, list[str]]) -> list[str]:
    return made[1]


def test_what_images_need_stays_for_ever(repository: Path) -> None:
    before = stored_files(repository)
    done = collected(repository, time.time() + 1000 * DAY_S)
    assert stored_files(repository) == before
    assert done.total.files == 0
    assert done.needed.files == len(before)
    assert done.needed.bytes == sum(before.values())


def test_what_only_a_removed_image_needed_goes_after_the_grace_time(
    repository: Path, images: list[str]
) -> None:
    now = time.time()
    before = stored_files(repository)
    bodies = {name: bodies_of(repository, name) for name in names_in(repository)}
    gone = image_name(images[1])
    remove_images(repository, [gone], int(now))
    done = collected(repository, now + 6.9 * DAY_S)
    assert stored_files(repository) == before
    assert [note.name for note in done.waiting] == [gone]
    done = collected(repository, now + 7.1 * DAY_S)
    assert [note.name for note in done.expired] == [gone]
    after = stored_files(repository)
    assert done.total.files == len(before) - len(after) > 0
    assert done.total.bytes == sum(before.values()) - sum(after.values())
    assert {name: bodies_of(repository, name) for name in names_in(repository)} == {
        name: body for name, body in bodies.items() if name != gone
    }
    assert checked(repository).problems == []


def test_a_repository_whose_images_were_all_removed_becomes_empty(
    repository: Path, images: list[str]
) -> None:
    remove_images(repository, [image_name(image) for image in images], int(time.time()))
    collected(repository, time.time() + 8 * DAY_S)
    assert stored_files(repository) == {}
    assert removed_images(repository) == ()


def test_an_image_that_lost_its_name_to_another_one_waits_too(
    repository: Path, images: list[str]
) -> None:
    before = stored_files(repository)
    convert_here(repository, images[2], name=image_name(images[1]))
    done = collected(repository, time.time() + 6 * DAY_S)
    assert before.keys() <= stored_files(repository).keys()
    assert len(done.waiting) == 1
    collected(repository, time.time() + 8 * DAY_S)
    assert len(stored_files(repository)) < len(before)
    assert checked(repository).problems == []


def test_a_dry_run_says_what_would_go_and_removes_nothing(
    repository: Path, images: list[str]
) -> None:
    remove_images(repository, [image_name(images[1])], int(time.time()))
    before = stored_files(repository)
    later = time.time() + 8 * DAY_S
    said = collected(repository, later, dry_run=True)
    assert stored_files(repository) == before
    assert len(removed_images(repository)) == 1
    assert collected(repository, later).removed == said.removed


def test_an_image_can_be_converted_again_after_its_objects_have_gone(
    repository: Path, images: list[str]
) -> None:
    name = image_name(images[1])
    bodies = bodies_of(repository, name)
    remove_images(repository, [name], int(time.time()))
    collected(repository, time.time() + 8 * DAY_S)
    convert_here(repository, images[1])
    assert bodies_of(repository, name) == bodies
    assert checked(repository).problems == []


def test_what_a_killed_converter_left_goes_after_the_grace_time(repository: Path) -> None:
    before = stored_files(repository)
    for path in ("objects/ab/" + "ab" * 32, "layers/.left.x7", "catalogs/cd/" + "cd" * 32):
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_bytes(b"left")
    done = collected(repository, time.time() + 6 * DAY_S)
    assert done.young.files == 3
    assert collected(repository, time.time() + 8 * DAY_S).total.files == 3
    assert stored_files(repository) == before


def test_a_record_that_stays_because_it_is_young_keeps_what_it_promises(
    repository: Path, images: list[str]
) -> None:
    """A converter that is killed before its image has a name leaves records others rely on."""
    name = image_name(images[1])
    bodies = bodies_of(repository, name)
    remove_images(repository, [name], int(time.time()))
    (repository / "removed.json").unlink()
    later = time.time() + 8 * DAY_S
    for folder in ("layers", "roots"):
        for record in (repository / folder).iterdir():
            os.utime(record, (later, later))
    collected(repository, later + DAY_S)
    convert_here(repository, images[1])
    assert bodies_of(repository, name) == bodies
    assert checked(repository).problems == []


def test_nothing_goes_while_it_is_not_known_what_an_image_needs(
    repository: Path, images: list[str]
) -> None:
    remove_images(repository, [image_name(images[1])], int(time.time()))
    catalog = next((repository / "catalogs").glob("*/*"))
    catalog.write_bytes(catalog.read_bytes()[:-9])
    before = stored_files(repository)
    with pytest.raises(IntegrityError, match="thinfs check"):
        collected(repository, time.time() + 30 * DAY_S, grace_s=60 * DAY_S)
    assert stored_files(repository) == before


def test_a_lost_list_of_names_is_not_taken_for_an_empty_one(repository: Path) -> None:
    before = stored_files(repository)
    (repository / "oci/index.json").unlink()
    with pytest.raises(MissingError, match="without names everything would go"):
        collected(repository, time.time() + 30 * DAY_S)
    assert stored_files(repository) == before


def test_a_converter_at_work_keeps_everything(repository: Path, images: list[str]) -> None:
    remove_images(repository, [image_name(images[1])], 0)
    before = stored_files(repository)
    with (
        LocalRepository(repository).converting(),
        pytest.raises(StoreError, match="at work"),
    ):
        _collect_at_once(repository)
    assert stored_files(repository) == before


def _collect_at_once(repository: Path) -> None:
    terms = Terms(grace_s=0, wait_s=0.05, now_s=time.time() + 60)
    collect(LocalRepository(repository), terms, Quiet())


def _gc(repository: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "thinfs.cli.main", "gc", "--repo", str(repository), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_killed_at_any_moment_the_repository_stays_whole(
    repository: Path, images: list[str]
) -> None:
    remove_images(repository, [image_name(image) for image in images[1:5]], 0)
    kept = [image_name(image) for image in (images[0], images[5])]
    bodies = {name: bodies_of(repository, name) for name in kept}
    start = len(stored_files(repository))
    collected_copy = repository.with_name("reference")
    shutil.copytree(repository, collected_copy)
    collected(collected_copy, time.time() + 60, grace_s=0)
    end = len(stored_files(collected_copy))
    for part in range(6):
        goal = start - (start - end) * part // 6
        process = _gc(repository, "--grace", "0")
        wait_until(
            lambda p=process, g=goal: p.poll() is not None or len(stored_files(repository)) <= g,  # type: ignore[misc]
            "some files to be gone",
        )
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert checked(repository).broken == 0
        assert {name: bodies_of(repository, name) for name in kept} == bodies
    collected(repository, time.time() + 60, grace_s=0)
    assert stored_files(repository).keys() == stored_files(collected_copy).keys()


@pytest.mark.slow
def test_thirty_images_with_converters_and_readers_at_work_and_collectors_killed(
    tmp_path: Path,
) -> None:
    """Nothing an image needs is ever lost, and in the end nothing else is left."""
    images = make_images(tmp_path / "in", 40)
    repository = tmp_path / "repo"
    convert_all(repository, images[:30])
    stay = {image_name(image): bodies_of(repository, image_name(image)) for image in images[:8]}
    stop = tmp_path / "stop"
    rng = random.Random(5)
    with ExitStack() as stack:
        workers = [stack.enter_context(_converter(repository, stop, images[n::2])) for n in (8, 9)]
        read = stack.enter_context(_Readers(repository, stay))
        for _ in range(12):
            process = _gc(repository, "--grace", "0", "--wait", "60s")
            if rng.random() < 0.75:
                try:
                    process.wait(rng.uniform(0.1, 2.5))
                except subprocess.TimeoutExpired:
                    process.kill()
                process.communicate()
            else:
                _, said = process.communicate(timeout=120)
                assert process.returncode == 0, said.decode()
            for name, bodies in stay.items():
                assert bodies_of(repository, name) == bodies
        stop.touch()
        for worker in workers:
            _, said = worker.communicate(timeout=120)
            assert worker.returncode == 0, said.decode()
    assert read.failure is None
    assert read.rounds > 0
    assert checked(repository).broken == 0
    for name in names_in(repository):
        assert bodies_of(repository, name)
    collected(repository, time.time() + 60, grace_s=0)
    assert checked(repository).problems == []
    _assert_nothing_else_is_left(repository, tmp_path / "fresh", images)


@contextmanager
def _converter(
    repository: Path, stop: Path, images: list[str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Converts and removes images until ``stop`` is there; ended with the test in any case."""
    process = subprocess.Popen(
        [sys.executable, "-c", CONVERTER, repository, stop, *images], stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


class _Readers:
    """Reads all images of a set again and again, in a thread."""

    def __init__(self, repository: Path, expected: dict[str, dict[bytes, bytes]]) -> None:
        self._repository = repository
        self._expected = expected
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.rounds = 0
        self.failure: BaseException | None = None

    def __enter__(self) -> _Readers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._enough.is_set():
                for name in self._round():
                    assert bodies_of(self._repository, name) == self._expected[name]
                self.rounds += 1
        except BaseException as error:
            self.failure = error

    def _round(self) -> Iterator[str]:
        for name in self._expected:
            if self._enough.is_set():
                return
            yield name


def _assert_nothing_else_is_left(repository: Path, fresh: Path, images: list[str]) -> None:
    """A new repository of the same images holds as many files of each kind but objects.

    Which contents share an object depends on the order of conversions.
    """
    names = set(names_in(repository))
    convert_all(fresh, [image for image in images if image_name(image) in names])
    for folder in ("catalogs", "metadata", "boots", "layers", "roots", "oci"):
        left = [path for path in stored_files(repository) if path.startswith(folder)]
        needed = [path for path in stored_files(fresh) if path.startswith(folder)]
        assert len(left) == len(needed), folder
