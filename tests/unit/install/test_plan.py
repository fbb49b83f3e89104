"""What installing and uninstalling change, for every state a machine may be in."""

from __future__ import annotations

import re
import tomllib
from pathlib import PurePosixPath

import pytest

from thinfs.cli.config_text import render
from thinfs.config import Config
from thinfs.errors import FormatError, UsageError
from thinfs.install.containerd import Version, drop_in, parse_version
from thinfs.install.plan import SETTINGS, UNITS, Layout, Plan, plan_install, plan_uninstall
from thinfs.install.settings import commented
from thinfs.install.stamp import Author, author_of, stamped

MAIN = PurePosixPath("/etc/containerd/config.toml")
LAYOUT = Layout(MAIN, PurePosixPath("/usr/bin"))
USERS = b'# mine\nversion = 2\n\n[debug]\nlevel = "debug"\n'
DEFAULTS = render(Config())
OLD, NEW = Version(1, 6), Version(2, 1)
Files = dict[PurePosixPath, bytes]


def after(files: Files, plan: Plan, steps: int | None = None) -> Files:
    """The files when the first ``steps`` steps are done."""
    changed = dict(files)
    for step in plan.steps[:steps]:
        assert changed.get(step.path) == step.before
        if step.after is None:
            del changed[step.path]
        else:
            changed[step.path] = step.after
    return changed


def installed(files: Files, version: Version | None = OLD) -> Files:
    return after(files, plan_install(LAYOUT, files, version, DEFAULTS))


def uninstalled(files: Files) -> Files:
    return after(files, plan_uninstall(LAYOUT, files))


STATES: dict[str, Files] = {
    "nothing": {},
    "the user's configuration": {MAIN: USERS},
    "imports of others": {MAIN: b'version = 2\nimports = ["/etc/containerd/a.toml"]\n'},
    "imports of everything": {MAIN: b'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n'},
}


@pytest.mark.parametrize("files", STATES.values(), ids=STATES)
@pytest.mark.parametrize("version", [OLD, NEW])
def test_uninstalling_gives_the_machine_back(files: Files, version: Version) -> None:
    assert uninstalled(installed(files, version)) == files


@pytest.mark.parametrize("files", STATES.values(), ids=STATES)
@pytest.mark.parametrize("version", [OLD, NEW, None])
def test_a_second_install_changes_nothing(files: Files, version: Version | None) -> None:
    once = installed(files, version)
    assert plan_install(LAYOUT, once, version, DEFAULTS).steps == ()


@pytest.mark.parametrize("files", STATES.values(), ids=STATES)
def test_what_is_imported_exists_after_every_step(files: Files) -> None:
    plan = plan_install(LAYOUT, files, OLD, DEFAULTS)
    whole = after(files, plan)
    for state, made in ((files, plan), (whole, plan_uninstall(LAYOUT, whole))):
        for steps in range(len(made.steps) + 1):
            there = after(state, made, steps)
            imports = tomllib.loads(there.get(MAIN, b"").decode()).get("imports", [])
            if "conf.d/thinfs.toml" in imports:
                assert LAYOUT.drop_in in there


@pytest.mark.parametrize("path", [SETTINGS, UNITS / "thinfs-daemon.service", LAYOUT.drop_in])
def test_files_that_the_user_edited_are_kept_by_install_and_uninstall(
    path: PurePosixPath,
) -> None:
    edited = installed({MAIN: USERS})
    edited[path] += b"# my own line\n"
    again = plan_install(LAYOUT, edited, OLD, DEFAULTS)
    assert again.steps == ()
    assert [note for note in again.notes if str(path) in note]
    assert uninstalled(edited) == {MAIN: USERS, path: edited[path]}


def test_files_of_an_older_version_are_brought_up_to_date() -> None:
    files = installed({MAIN: USERS})
    files[SETTINGS] = stamped("# what an older version wrote\n")
    assert installed(files)[SETTINGS] == commented(DEFAULTS)


def test_the_users_later_edits_stay_and_so_does_the_backup() -> None:
    files = installed({MAIN: USERS})
    files[MAIN] = files[MAIN].replace(b'"debug"', b'"info"')
    left = uninstalled(files)
    assert left == {MAIN: USERS.replace(b'"debug"', b'"info"'), LAYOUT.backup: USERS}


def test_a_machine_without_containerd_gets_the_rest_and_a_note() -> None:
    plan = plan_install(LAYOUT, {}, None, DEFAULTS)
    assert MAIN not in after({}, plan)
    assert "containerd was not found" in plan.notes[0]


def test_a_plugin_that_the_user_registered_is_left_alone() -> None:
    mine = USERS + b'[proxy_plugins.thin]\ntype = "snapshot"\naddress = "/my.sock"\n'
    plan = plan_install(LAYOUT, {MAIN: mine}, OLD, DEFAULTS)
    assert not {LAYOUT.drop_in, MAIN} & {step.path for step in plan.steps}
    assert "left as it is" in plan.notes[0]


def test_a_configuration_that_cannot_be_read_is_refused() -> None:
    for broken in (b"version = = 2\n", b"\xff\xfe"):
        with pytest.raises(FormatError, match=r"config\.toml"):
            plan_install(LAYOUT, {MAIN: broken}, OLD, DEFAULTS)


def test_a_copy_of_the_configuration_is_as_private_as_the_original() -> None:
    plan = plan_install(LAYOUT, {MAIN: USERS}, OLD, DEFAULTS)
    assert [step.like for step in plan.steps if step.path == LAYOUT.backup] == [MAIN]


@pytest.mark.parametrize("path", ["bin", "/opt/my programs", "/opt/50%"])
def test_directories_that_mean_something_to_systemd_are_refused(path: str) -> None:
    layout = Layout(MAIN, PurePosixPath(path))
    with pytest.raises(UsageError, match="absolute path of plain characters"):
        plan_install(layout, {}, OLD, DEFAULTS)


def test_containerd_1_gets_the_address_and_nothing_that_it_does_not_know() -> None:
    assert tomllib.loads(drop_in(OLD, {"version": 2}).decode()) == {
        "version": 2,
        "proxy_plugins": {"thin": {"type": "snapshot", "address": "/run/thinfs/snapshotter.sock"}},
    }


def test_containerd_2_gets_exports_and_may_unpack_into_both() -> None:
    config = tomllib.loads(drop_in(NEW, {"version": 3}).decode())
    assert config["version"] == 3
    assert config["proxy_plugins"]["thin"]["exports"] == {
        "root": "/var/lib/thinfs/snapshotter",
        "enable_remote_snapshot_annotations": "true",
    }
    unpack = config["plugins"]["io.containerd.transfer.v1.local"]["unpack_config"]
    assert [entry["snapshotter"] for entry in unpack] == ["thin", "overlayfs"]


def test_what_the_user_unpacks_into_stays() -> None:
    chosen = {"platform": "linux/arm64", "snapshotter": "btrfs"}
    main = {"plugins": {"io.containerd.transfer.v1.local": {"unpack_config": [chosen]}}}
    config = tomllib.loads(drop_in(NEW, main).decode())
    unpack = config["plugins"]["io.containerd.transfer.v1.local"]["unpack_config"]
    assert unpack[0] == chosen
    assert [entry["snapshotter"] for entry in unpack[1:]] == ["thin", "overlayfs"]


@pytest.mark.parametrize("version", [1, 2, 3, 4, None])
def test_the_drop_in_has_the_version_of_the_file_that_imports_it(version: int | None) -> None:
    main = {} if version is None else {"version": version}
    assert tomllib.loads(drop_in(NEW, main).decode()).get("version") == version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.7", Version(1, 7)),
        ("v2.1.4", Version(2, 1)),
        ("github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", Version(1, 6)),
        ("github.com/containerd/containerd/v2 v2.2.0 1c4457e00facac03ce1d75f7", Version(2, 2)),
    ],
)
def test_versions_are_read_as_containerd_prints_them(text: str, version: Version) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["1.5.9", "", "main", "two"])
def test_versions_that_are_too_old_or_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_version(text)


def test_the_installed_settings_explain_every_field_and_change_none() -> None:
    text = commented(DEFAULTS).decode()
    assert tomllib.loads(text) == {name: {} for name in Config.__struct_fields__}
    uncommented = re.sub(r"(?m)^#(?! \S)", "", text)  # explanations have one space
    shown = tomllib.loads(uncommented)
    for name in Config.__struct_fields__:
        section = getattr(Config(), name)
        assert shown[name] == {
            field: getattr(section, field) for field in section.__struct_fields__
        }


def test_one_changed_byte_makes_a_file_the_users() -> None:
    data = stamped("text\n")
    assert author_of(data) is Author.INSTALLER
    assert author_of(data + b" ") is Author.USER
    assert author_of(b"text\n") is Author.USER
    assert author_of(None) is Author.NOBODY
