"""Whatever comes and goes in whatever order: what has a name, or had one lately, is whole."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.converted import files_of
from tests.support.kept_repository import (
    DAY_S,
    bodies_of,
    checked,
    collected,
    names_in,
    stored_files,
)
from tests.support.small_images import convert_here, image_name, make_images
from thinfs.oci.kept import remove_images

IMAGES = 4
NUMBERS = st.integers(0, IMAGES - 1)


class Collecting(RuleBasedStateMachine):
    """A repository over some weeks. Files look a month old from the start, the worst case."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="thinfs-test-"))
        self.repository = self.folder / "repo"
        self.images = make_images(self.folder / "in", IMAGES)
        self.now = time.time() + 30 * DAY_S
        self.bodies: dict[str, dict[bytes, bytes]] = {}
        self.catalogs: dict[str, str] = {}
        self.removed_at: dict[str, float] = {}

    @initialize()
    def begin(self) -> None:
        self.convert(0)

    @rule(number=NUMBERS)
    def convert(self, number: int) -> None:
        done = convert_here(self.repository, self.images[number])
        self.removed_at.pop(done.name, None)
        self.bodies.setdefault(done.name, bodies_of(self.repository, done.name))
        recipe = done.images[0].recipe
        assert recipe.thinfs is not None
        self.catalogs[done.name] = recipe.thinfs.root.catalog.digest

    @rule(number=NUMBERS)
    def remove(self, number: int) -> None:
        name = image_name(self.images[number])
        if name in names_in(self.repository):
            remove_images(self.repository, [name], int(self.now))
            self.removed_at[name] = self.now

    @rule(days=st.floats(0, 5))
    def wait(self, days: float) -> None:
        self.now += days * DAY_S

    @rule(grace=st.sampled_from([0, 3, 7]))
    def collect(self, grace: int) -> None:
        before = stored_files(self.repository)
        done = collected(self.repository, self.now + 1, grace_s=grace * DAY_S)
        after = stored_files(self.repository)
        assert done.total.files == len(before) - len(after)
        assert collected(self.repository, self.now + 1, grace_s=grace * DAY_S).total.files == 0
        old = [name for name, at in self.removed_at.items() if at + grace * DAY_S <= self.now]
        for name in old:
            del self.removed_at[name]

    @invariant()
    def what_has_or_had_a_name_is_whole(self) -> None:
        for name in self.catalogs:
            if self.repository.exists() and (
                name in self.removed_at or name in names_in(self.repository)
            ):
                found = files_of(self.repository, self.catalogs[name])
                assert found == self.bodies[name]

    def teardown(self) -> None:
        if self.repository.exists():
            assert checked(self.repository).problems == []
            collected(self.repository, self.now + 100 * DAY_S)
            assert checked(self.repository).problems == []
            names = [image_name(image) for image in self.images]
            left = [name for name in names if name in names_in(self.repository)]
            remove_images(self.repository, left, 0)
            collected(self.repository, self.now + 200 * DAY_S)
            assert stored_files(self.repository) == {}
        shutil.rmtree(self.folder)


TestCollecting = Collecting.TestCase
TestCollecting.settings = settings(
    max_examples=6, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck)
)
