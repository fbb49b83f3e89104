"""``thinfs install`` below a directory: what it writes, asks, refuses and survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from tests.support import needs
from thinfs.cli.config_text import render
from thinfs.config import Config
from thinfs.errors import StoreError, UsageError
from thinfs.install.containerd import Version
from thinfs.install.machine import Machine
from thinfs.install.plan import Layout, Plan, plan_install, plan_uninstall

if TYPE_CHECKING:
    from collections.abc import Callable

USERS = b"# mine\nversion = 2\n"
LAYOUT = Layout(PurePosixPath("/etc/containerd/config.toml"), PurePosixPath("/usr/bin"))
FILE_EVENTS = {"open", "os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root directory of an image with containerd's configuration in it."""
    needs.root()
    for folder in ("etc/containerd", "etc/systemd/system", "usr/bin"):
        (tmp_path / "image" / folder).mkdir(parents=True)
    for name in ("thinfs", "thin-snapshotter"):
        (tmp_path / "image/usr/bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "image/usr/bin" / name).chmod(0o755)
    (tmp_path / "image/etc/containerd/config.toml").write_bytes(USERS)
    return tmp_path / "image"


def install(image: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "thinfs.cli.main", "install", "--root", str(image)),
            *("--containerd-version", "1.7", "--bin-dir", "/usr/bin", *options),
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def contents(image: Path) -> dict[str, bytes]:
    """What is below etc/."""
    files = (path for path in (image / "etc").rglob("*") if path.is_file())
    return {str(path.relative_to(image)): path.read_bytes() for path in files}


def test_it_shows_a_diff_writes_and_says_what_to_do_next(image: Path) -> None:
    ran = install(image, "--yes")
    assert ran.returncode == 0, ran.stderr
    assert '+imports = ["conf.d/thinfs.toml"] # added by thinfs install' in ran.stdout
    assert "+++ /etc/containerd/conf.d/thinfs.toml" in ran.stdout
    assert "systemctl enable --now thinfs-daemon.service thin-snapshotter.service" in ran.stdout
    assert set(contents(image)) == {
        "etc/containerd/conf.d/thinfs.toml",
        "etc/containerd/config.toml",
        "etc/containerd/config.toml.before-thinfs",
        "etc/systemd/system/thin-snapshotter.service",
        "etc/systemd/system/thinfs-daemon.service",
        "etc/thinfs/config.toml",
    }


def test_a_second_run_says_that_nothing_changes(image: Path) -> None:
    install(image, "--yes")
    before = contents(image)
    ran = install(image)  # nobody needs to be asked
    assert (ran.returncode, ran.stdout) == (0, "Nothing to change.\n")
    assert contents(image) == before


def test_uninstalling_leaves_the_image_as_it_was(image: Path) -> None:
    before = sorted(image.rglob("*")), contents(image)
    install(image, "--yes")
    ran = install(image, "--uninstall", "--yes")
    assert ran.returncode == 0, ran.stderr
    assert (sorted(image.rglob("*")), contents(image)) == before
    assert install(image, "--uninstall").stdout == "Nothing to change.\n"


def test_a_dry_run_shows_all_and_writes_nothing(image: Path) -> None:
    before = contents(image)
    ran = install(image, "--dry-run")
    assert ran.returncode == 0
    assert "+++ /etc/thinfs/config.toml" in ran.stdout
    assert contents(image) == before


def test_without_a_terminal_and_without_yes_nothing_is_written(image: Path) -> None:
    before = contents(image)
    ran = install(image)
    assert ran.returncode == 2
    assert "add --yes" in ran.stderr
    assert contents(image) == before


def test_commands_that_the_units_would_not_find_are_named(image: Path) -> None:
    (image / "usr/bin/thin-snapshotter").unlink()
    ran = install(image, "--dry-run")
    assert "note: /usr/bin/thin-snapshotter is not there yet" in ran.stdout
    assert "note: /usr/bin/thinfs " not in ran.stdout


def test_json_lists_the_changes(image: Path) -> None:
    report = json.loads(install(image, "--yes", "--json").stdout)
    assert report["applied"] is True
    assert {"path": "/etc/containerd/config.toml", "action": "update"} in report["changes"]
    assert {"path": "/etc/thinfs/config.toml", "action": "create"} in report["changes"]
    assert report["next"][-1] == "systemctl restart containerd"
    again = json.loads(install(image, "--json").stdout)
    assert (again["applied"], again["changes"], again["next"]) == (False, [], [])


def test_a_private_configuration_and_its_copy_stay_private(image: Path) -> None:
    main = image / "etc/containerd/config.toml"
    main.chmod(0o600)
    os.chown(main, 12, 34)
    install(image, "--yes")
    for name in ("config.toml", "config.toml.before-thinfs"):
        status = (image / "etc/containerd" / name).stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o600, 12, 34)


def test_links_are_neither_replaced_nor_followed_out_of_the_image(
    image: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.toml"
    outside.write_bytes(USERS)
    main = image / "etc/containerd/config.toml"
    main.unlink()
    main.symlink_to(outside)
    ran = install(image, "--yes")
    assert ran.returncode == 2
    assert "symbolic link" in ran.stderr
    assert (main.is_symlink(), outside.read_bytes()) == (True, USERS)


def plan_for(image: Path, *, uninstall: bool) -> Plan:
    files = Machine(image).read(LAYOUT.files())
    if uninstall:
        return plan_uninstall(LAYOUT, files)
    return plan_install(LAYOUT, files, Version(1, 7), render(Config()))


def apply(image: Path, check: Callable[[Path], None] | None = None) -> None:
    Machine(image).apply(plan_for(image, uninstall=False), LAYOUT.containerd_config, check)


def test_a_refused_candidate_leaves_everything_as_it_was(image: Path) -> None:
    before = sorted(image.rglob("*")), contents(image)
    seen = []

    def refuse(candidate: Path) -> None:
        seen.append(tomllib.loads(candidate.read_text()))
        assert (candidate.parent / seen[0]["imports"][0]).exists()
        raise UsageError("not like this")

    with pytest.raises(UsageError, match="not like this"):
        apply(image, refuse)
    assert seen == [{"version": 2, "imports": ["conf.d/thinfs.toml"]}]
    assert (sorted(image.rglob("*")), contents(image)) == before


def test_a_file_that_somebody_changes_meanwhile_is_not_overwritten(image: Path) -> None:
    plan = plan_for(image, uninstall=False)
    main = image / "etc/containerd/config.toml"
    main.write_bytes(b"# changed\n")
    with pytest.raises(StoreError, match="changed by somebody else"):
        Machine(image).apply(plan, LAYOUT.containerd_config, None)
    assert contents(image) == {"etc/containerd/config.toml": b"# changed\n"}


def killed_at(event_number: int, act: Callable[[], None]) -> bool:
    """Run ``act`` in a child that kills itself at its n-th file operation, if it has so many."""
    child = os.fork()
    if child == 0:
        seen = 0

        def kill_at(event: str, _arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event not in FILE_EVENTS:
                return
            seen += 1
            if seen == event_number:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(kill_at)
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("uninstall", [False, True])
def test_kill_9_at_any_file_operation_leaves_old_or_new_files_and_a_sound_configuration(
    tmp_path: Path, *, uninstall: bool
) -> None:
    needs.root()

    def prepared(name: str) -> Path:
        root = tmp_path / name
        (root / "etc/containerd").mkdir(parents=True)
        (root / "etc/containerd/config.toml").write_bytes(USERS)
        if uninstall:
            apply(root)
        return root

    def act(root: Path) -> None:
        plan = plan_for(root, uninstall=uninstall)
        Machine(root).apply(plan, LAYOUT.containerd_config, lambda _: None)

    whole = prepared("whole")
    old = contents(whole)
    act(whole)
    new = contents(whole)
    number = 1
    while True:
        root = prepared(str(number))
        killed = killed_at(number, lambda root=root: act(root))  # type: ignore[misc]  # bound now
        for name, data in contents(root).items():
            if name in old or name in new:
                assert data in {old.get(name), new.get(name)}, (number, name)
        main = tomllib.loads((root / "etc/containerd/config.toml").read_text())
        for each in main.get("imports", []):
            assert (root / "etc/containerd" / each).exists(), number
        act(root)  # a second run finishes the work
        assert {name: contents(root).get(name) for name in new} == new
        if not killed:
            break
        number += 1
    assert number > 20


def test_systemd_accepts_the_units(image: Path) -> None:
    verify = needs.command("systemd-analyze", "systemd")
    ran = install(image, "--yes", "--bin-dir", str(image / "usr/bin"))
    assert ran.returncode == 0, ran.stderr
    units = image / "etc/systemd/system"
    checked = subprocess.run(
        [verify, "verify", "--man=no", *map(str, units.iterdir())],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
    )
    complaints = [line for line in checked.stderr.splitlines() if "thin" in line]
    assert (checked.returncode, complaints) == (0, []), checked.stderr
