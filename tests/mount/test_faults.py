"""What readers see when bytes cannot be had, and what is left when processes end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.repositories import directory, file, object_file, tree
from tests.support.sites import is_mounted, serves
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.repositories import MadeRoot
    from tests.support.sites import Site

pytestmark = pytest.mark.mount


@pytest.fixture
def root(site: Site) -> MadeRoot:
    return site.root(
        tree(
            directory(b""),
            file(b"one", os.urandom(300_000)),
            file(b"two", os.urandom(300_000)),
        )
    )


@pytest.mark.expects_log("object [0-9a-f]{64}")
def test_a_missing_object_is_an_input_output_error_until_it_is_back(
    site: Site, root: MadeRoot
) -> None:
    stored = object_file(site.repository, root.objects[b"one"][0])
    away = stored.with_suffix(".away")
    stored.rename(away)
    with site.mounted(root) as at:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what matters
            (at / "one").read_bytes()
        assert caught.value.errno == errno.EIO
        assert len((at / "two").read_bytes()) == 300_000
        away.rename(stored)
        assert len((at / "one").read_bytes()) == 300_000


@pytest.mark.expects_log("object [0-9a-f]{64}")
def test_a_flipped_byte_is_never_served(site: Site, root: MadeRoot) -> None:
    stored = object_file(site.repository, root.objects[b"one"][0])
    good = stored.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    stored.write_bytes(bad)
    with site.mounting(root) as (process, at):
        process.wait_ready(lambda: serves(process), "the mount")
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what matters
            (at / "one").read_bytes()
        assert caught.value.errno == errno.EIO
        said = process.log.read_text()
        assert stored.name in said
        assert site.repository.as_uri() in said
        stored.write_bytes(good)
        assert len((at / "one").read_bytes()) == 300_000


def test_sigterm_unmounts(site: Site, root: MadeRoot) -> None:
    with site.mounting(root) as (process, at):
        process.wait_ready(lambda: serves(process), "the mount")
        held = os.open(at / "one", os.O_RDONLY)
        assert len(os.read(held, 10)) == 10
        assert process.stop() == 0
        assert not is_mounted(at)
        with pytest.raises(OSError, match="not connected"):
            os.close(held)


def test_ctrl_c_unmounts(site: Site, root: MadeRoot) -> None:
    with site.mounting(root) as (process, at):
        process.wait_ready(lambda: serves(process), "the mount")
        assert process.stop(signal.SIGINT) == 0
        assert not is_mounted(at)


@pytest.mark.expects_log("detaching the dead mount")
def test_a_dead_mount_is_swept_by_the_next_one(site: Site, root: MadeRoot) -> None:
    with site.mounting(root) as (process, at):
        process.wait_ready(lambda: serves(process), "the mount")
        process.stop(signal.SIGKILL)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what matters
        os.statvfs(at)
    assert caught.value.errno == errno.ENOTCONN
    with site.mounted(root) as at:
        assert len((at / "one").read_bytes()) == 300_000
    assert not is_mounted(at)


def test_a_mount_that_is_alive_is_not_covered_by_another(site: Site, root: MadeRoot) -> None:
    with site.mounted(root) as at:
        done = run(site, "mount", site.recipe(root), at)
        assert done.returncode == 2
        assert done.stderr.startswith("thinfs: something is mounted at")
        assert len((at / "one").read_bytes()) == 300_000


def test_mount_returns_when_it_serves_and_umount_ends_it(site: Site, root: MadeRoot) -> None:
    at = site.folder / "at"
    at.mkdir()
    done = run(site, "mount", site.recipe(root), at)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"test/image:1 is mounted at {at}\n"
    assert len((at / "one").read_bytes()) == 300_000
    assert run(site, "umount", at).returncode == 0
    assert not is_mounted(at)
    (log,) = (site.folder / "state/mounts").iterdir()
    wait_until(lambda: f"unmounted {at}" in log.read_text(), "the process to end")


@pytest.mark.parametrize(
    ("image", "code", "says"),
    [
        ("{folder}/none.json", 3, "does not exist"),
        ("oci:{folder}/none:tag", 3, "does not exist"),
        ("{folder}/config.toml", 4, "thin.json is not a recipe"),
    ],
)
def test_mount_says_in_one_line_what_is_wrong_with_an_image(
    site: Site, image: str, code: int, says: str
) -> None:
    (site.folder / "at").mkdir()
    done = run(site, "mount", image.format(folder=site.folder), site.folder / "at")
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_mount_asks_for_a_directory_that_exists(site: Site, root: MadeRoot) -> None:
    done = run(site, "mount", site.recipe(root), site.folder / "none")
    assert done.returncode == 3
    assert "create the directory first" in done.stderr


def test_a_repository_that_is_not_allowed_is_not_contacted(site: Site, folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    at = folder / "at"
    at.mkdir()
    root = site.root(tree(directory(b""), file(b"f", b"x")), urls=[elsewhere.as_uri()])
    site.repository.rename(elsewhere)
    done = run(site, "mount", site.recipe(root), at)
    assert done.returncode == 2
    assert f'add "{elsewhere.as_uri()}/" to allow in [sources]' in done.stderr
    done = run(site, "mount", "--allow", elsewhere.as_uri(), site.recipe(root), at)
    assert done.returncode == 0, done.stderr
    assert (at / "f").read_bytes() == b"x"
    assert run(site, "umount", at).returncode == 0


def test_umount_refuses_what_is_not_ours(site: Site) -> None:
    done = run(site, "umount", "/proc")
    assert (done.returncode, done.stderr) == (2, "thinfs: /proc is not a mount of thinfs\n")


def run(site: Site, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        site.command(*arguments), capture_output=True, text=True, check=False, timeout=60
    )
