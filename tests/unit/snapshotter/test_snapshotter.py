from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from snapshotter.model import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    Kind,
    Mount,
    NotFound,
    SnapshotError,
    Unavailable,
    Usage,
)
from snapshotter.snapshotter import DAEMON_ERRORS
from tests.support.snapshots import RECIPE, disagreements, orphans
from thinfs import errors
from thinfs.control.values import Root
from thinfs.errors import StoreError, ThinfsError, TransportError, UsageError

if TYPE_CHECKING:
    from tests.support.snapshots import Bench


def lowerdir(mounts: tuple[Mount, ...]) -> str:
    (mount,) = mounts
    (option,) = [o for o in mount.options if o.startswith("lowerdir=")]
    return option.removeprefix("lowerdir=")


def test_a_prepared_snapshot_is_active_and_its_directories_are_there(bench: Bench) -> None:
    mounts = bench.snapshotter.prepare("k", "", {"a": "1"})
    assert mounts == (Mount("bind", str(bench.fs("k")), ("rw", "rbind")),)
    info = bench.snapshotter.stat("k")
    assert (info.kind, info.parent, info.labels) == (Kind.ACTIVE, "", {"a": "1"})
    assert not list(disagreements(bench.layout, bench.store))


def test_a_key_or_name_may_not_be_empty(bench: Bench) -> None:
    with pytest.raises(InvalidArgument):
        bench.snapshotter.prepare("", "", {})
    bench.snapshotter.prepare("k", "", {})
    with pytest.raises(InvalidArgument):
        bench.snapshotter.commit("", "k", {})


def test_a_refused_prepare_leaves_nothing_on_disk(bench: Bench) -> None:
    bench.snapshotter.prepare("k", "", {})
    refusals: list[tuple[str, str, type[SnapshotError]]] = [
        ("k", "", AlreadyExists),
        ("new", "unknown", NotFound),
        ("new", "k", InvalidArgument),
    ]
    for key, parent, error in refusals:
        with pytest.raises(error):
            bench.snapshotter.prepare(key, parent, {})
    assert not list(orphans(bench.layout, bench.store))


def test_without_a_parent_a_label_that_names_a_chain_never_means_already_exists(
    bench: Bench,
) -> None:
    bench.commit_ordinary("sha256:aa")
    label = {"containerd.io/snapshot.ref": "sha256:aa"}
    assert bench.snapshotter.prepare("extract-2 sha256:aa", "", label)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files away")
def test_upon_an_ordinary_snapshot_the_owner_is_taken_over_and_the_mode_is_not(
    bench: Bench,
) -> None:
    bench.commit_ordinary("base")
    os.chown(bench.fs("base"), 12, 34)
    bench.fs("base").chmod(0o700)
    bench.snapshotter.prepare("k", "base", {})
    status = bench.fs("k").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (12, 34, 0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files away")
def test_upon_a_thin_root_the_owner_is_taken_over_also_higher_up_and_the_mode_is_not(
    bench: Bench,
) -> None:
    bench.commit_thin("thin")
    os.chown(bench.roots.tree, 12, 34)
    bench.roots.tree.chmod(0o700)
    bench.commit_ordinary("above", "thin")
    bench.snapshotter.prepare("k", "above", {})
    for key in ("above", "k"):
        status = bench.fs(key).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (12, 34, 0o755)


def test_a_commit_measures_and_the_active_key_is_gone(bench: Bench) -> None:
    bench.commit_ordinary("base")
    usage = bench.snapshotter.usage("base")
    assert usage.inodes == 2
    (bench.fs("base") / "later").write_text("x")
    assert bench.snapshotter.usage("base") == usage
    with pytest.raises(NotFound):
        bench.snapshotter.stat("extract base")
    with pytest.raises(NotFound):
        bench.snapshotter.commit("again", "extract base", {})


def test_usage_of_an_active_snapshot_is_measured_and_of_a_view_nothing(bench: Bench) -> None:
    bench.commit_ordinary("base")
    bench.snapshotter.prepare("k", "base", {})
    assert bench.snapshotter.usage("k").inodes == 1
    (bench.fs("k") / "f").write_text("x")
    assert bench.snapshotter.usage("k").inodes == 2
    bench.snapshotter.view("v", "base", {})
    assert bench.snapshotter.usage("v") == Usage(0, 0)


def test_a_commit_cannot_change_the_parent(bench: Bench) -> None:
    bench.commit_ordinary("base")
    bench.snapshotter.prepare("k", "base", {})
    with pytest.raises(InvalidArgument, match="parent"):
        bench.snapshotter.commit("n", "k", {}, "other")
    bench.snapshotter.commit("n", "k", {}, "base")


def test_a_committed_snapshot_cannot_be_mounted(bench: Bench) -> None:
    bench.commit_ordinary("base")
    with pytest.raises(FailedPrecondition):
        bench.snapshotter.mounts("base")
    with pytest.raises(NotFound):
        bench.snapshotter.mounts("unknown")


def test_mounts_are_the_same_as_at_prepare(bench: Bench) -> None:
    bench.commit_ordinary("a")
    bench.commit_ordinary("b", "a")
    for make in (bench.snapshotter.prepare, bench.snapshotter.view):
        key = f"on b {make.__name__}"
        assert make(key, "b", {}) == bench.snapshotter.mounts(key)


@pytest.mark.parametrize(
    ("paths", "labels", "wanted"),
    [
        ([], {"b": "2"}, {"b": "2"}),
        (["labels"], {"b": "2", "c": ""}, {"b": "2"}),
        (["labels.b"], {"b": "2", "c": "3"}, {"a": "1", "x.y": "0", "b": "2"}),
        (["labels.x.y"], {"x.y": "9"}, {"a": "1", "x.y": "9"}),
        (["labels.a"], {}, {"x.y": "0"}),
        (["labels.a", "labels.c"], {"c": "3"}, {"x.y": "0", "c": "3"}),
        (["labels.a", "labels"], {"c": "3"}, {"c": "3"}),
    ],
)
def test_update_changes_the_labels_that_the_mask_names(
    bench: Bench, paths: list[str], labels: dict[str, str], wanted: dict[str, str]
) -> None:
    bench.snapshotter.prepare("k", "", {"a": "1", "x.y": "0"})
    before = bench.snapshotter.stat("k")
    after = bench.snapshotter.update("k", labels, paths)
    assert after.labels == wanted
    assert after == bench.snapshotter.stat("k")
    assert after.updated_ns > before.updated_ns
    assert after.created_ns == before.created_ns


@pytest.mark.parametrize("path", ["name", "parent", "kind", "created_at", "labels.", "labelsx", ""])
def test_nothing_but_labels_can_be_updated(bench: Bench, path: str) -> None:
    bench.snapshotter.prepare("k", "", {"a": "1"})
    with pytest.raises(InvalidArgument):
        bench.snapshotter.update("k", {"a": "2"}, ["labels.a", path])
    assert bench.snapshotter.stat("k").labels == {"a": "1"}


def test_list_gives_what_the_filters_match(bench: Bench) -> None:
    bench.commit_ordinary("base")
    bench.snapshotter.prepare("k", "base", {})
    names = [info.name for info in bench.snapshotter.list(["kind==active", "parent==base"])]
    assert names == ["k"]
    with pytest.raises(InvalidArgument):
        bench.snapshotter.list(["kind="])


def test_a_removed_snapshot_is_forgotten_at_once_and_deleted_at_cleanup(bench: Bench) -> None:
    bench.snapshotter.prepare("k", "", {})
    home = bench.fs("k").parent
    bench.snapshotter.remove("k")
    assert home.exists()
    bench.snapshotter.prepare("k", "", {})
    bench.snapshotter.cleanup()
    assert not home.exists()
    assert bench.fs("k").exists()


def test_cleanup_leaves_what_it_does_not_know(bench: Bench) -> None:
    for name in ("lost+found", "new-1"):
        (bench.layout.directory / name).mkdir()
    bench.snapshotter.cleanup()
    assert len(list(bench.layout.directory.iterdir())) == 2


def test_cleanup_leaves_a_snapshot_that_is_being_made(bench: Bench) -> None:
    bench.commit_thin("thin")
    bench.roots.on_attach = bench.snapshotter.cleanup
    bench.snapshotter.prepare("k", "thin", {})
    assert bench.roots.holders == {bench.holder("k"): RECIPE}
    assert not list(disagreements(bench.layout, bench.store))


def test_a_thin_layer_is_mounted_as_its_root(bench: Bench) -> None:
    bench.commit_thin("thin")
    assert lowerdir(bench.snapshotter.prepare("k", "thin", {})) == str(bench.roots.tree)
    assert bench.roots.holders == {bench.holder("k"): RECIPE}
    (view,) = bench.snapshotter.view("v", "thin", {})
    assert view == Mount("bind", str(bench.roots.tree), ("ro", "rbind"))
    assert bench.roots.holders == {bench.holder("k"): RECIPE, bench.holder("v"): RECIPE}


def test_ordinary_layers_can_be_stacked_upon_a_thin_one(bench: Bench) -> None:
    bench.commit_thin("thin")
    bench.commit_ordinary("above", "thin")
    mounts = bench.snapshotter.prepare("k", "above", {})
    assert lowerdir(mounts) == f"{bench.fs('above')}:{bench.roots.tree}"
    mounts = bench.snapshotter.view("v", "above", {})
    assert lowerdir(mounts) == f"{bench.fs('above')}:{bench.roots.tree}"


def test_the_daemon_is_never_asked_for_an_ordinary_image(bench: Bench) -> None:
    bench.roots.failures = [StoreError("must not be asked")]
    bench.commit_ordinary("base")
    bench.snapshotter.prepare("k", "base", {})
    bench.snapshotter.mounts("k")
    bench.snapshotter.remove("k")
    bench.snapshotter.cleanup()
    assert bench.roots.failures


def test_mounts_makes_the_root_be_there_again(bench: Bench) -> None:
    bench.commit_thin("thin")
    mounts = bench.snapshotter.prepare("k", "thin", {})
    bench.roots.detach(bench.holder("k"))
    assert bench.snapshotter.mounts("k") == mounts
    assert bench.roots.holders == {bench.holder("k"): RECIPE}


def test_every_error_of_the_daemon_has_an_answer_for_the_client() -> None:
    known = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, ThinfsError)
    }
    assert known - {ThinfsError} == set(DAEMON_ERRORS)


@pytest.mark.parametrize(
    ("failure", "answer"),
    [
        (TransportError("no answer from http://x"), Unavailable),
        (UsageError("http://x is not allowed"), FailedPrecondition),
        (ThinfsError("odd"), Unavailable),
    ],
)
def test_when_the_root_cannot_be_had_prepare_says_why_and_leaves_nothing(
    bench: Bench, failure: ThinfsError, answer: type[SnapshotError]
) -> None:
    bench.commit_thin("thin")
    for make in (bench.snapshotter.prepare, bench.snapshotter.view):
        bench.roots.failures = [failure]
        with pytest.raises(answer, match=f"snapshot k: .*{failure}"):
            make("k", "thin", {})
    assert [info.name for info in bench.store.all()] == ["thin"]
    assert not list(orphans(bench.layout, bench.store))
    bench.snapshotter.cleanup()
    assert bench.store.claims() == []
    assert bench.snapshotter.prepare("k", "thin", {})


def test_a_root_that_does_not_answer_is_not_handed_out(bench: Bench) -> None:
    bench.commit_thin("thin")
    bench.roots.tree.rmdir()
    with pytest.raises(Unavailable, match="does not answer"):
        bench.snapshotter.prepare("k", "thin", {})
    bench.snapshotter.cleanup()
    assert bench.roots.holders == {}


@pytest.mark.parametrize("lowerdir", ["", "relative", "/a,upperdir=/etc"])
def test_an_answer_that_would_change_the_mount_options_is_refused(
    bench: Bench, lowerdir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.commit_thin("thin")
    root = Root("ab", "tree", lowerdir, str(bench.roots.tree), "", [])
    monkeypatch.setattr(bench.roots, "attach", lambda *_: root)
    with pytest.raises(Unavailable, match="cannot be mounted"):
        bench.snapshotter.prepare("k", "thin", {})


def test_a_root_is_given_up_at_cleanup_once_its_snapshot_is_gone(bench: Bench) -> None:
    bench.commit_thin("thin")
    for key in ("a", "b"):
        bench.snapshotter.prepare(key, "thin", {})
    bench.snapshotter.remove("a")
    bench.snapshotter.cleanup()
    assert bench.roots.holders == {bench.holder("b"): RECIPE}
    bench.commit_ordinary("above", "thin")  # its extraction needed the root too, until commit
    bench.snapshotter.cleanup()
    assert bench.roots.holders == {bench.holder("b"): RECIPE}


@pytest.mark.expects_log("cannot give up a root, will try again")
def test_giving_up_a_root_is_tried_again_and_never_blocks_remove(bench: Bench) -> None:
    bench.commit_thin("thin")
    bench.snapshotter.prepare("k", "thin", {})
    bench.roots.failures = [TransportError("no daemon")]
    bench.snapshotter.remove("k")
    bench.snapshotter.remove("thin")
    assert bench.roots.failures
    bench.snapshotter.cleanup()
    assert len(bench.roots.holders) == 1
    bench.snapshotter.cleanup()
    assert bench.roots.holders == {}
    assert bench.store.claims() == []


@pytest.mark.expects_log("is not lazy, though it has a thin.json")
def test_what_only_looks_thin_is_an_ordinary_layer(bench: Bench) -> None:
    bench.commit_thin("nearly", '{"version": "1.0"}')
    bench.snapshotter.prepare("k", "nearly", {})
    assert bench.roots.holders == {}


def test_a_view_cannot_be_committed(bench: Bench) -> None:
    bench.commit_ordinary("base")
    bench.snapshotter.view("v", "base", {})
    with pytest.raises(FailedPrecondition):
        bench.snapshotter.commit("n", "v", {})


def test_the_daemon_hears_of_a_thin_layer_as_soon_as_it_is_committed(bench: Bench) -> None:
    bench.commit_ordinary("base", "")
    assert bench.roots.expected == []
    bench.commit_thin("thin")
    assert bench.roots.expected == [RECIPE]
    assert bench.roots.holders == {}


def test_only_overlays_upon_thin_roots_get_the_options_for_these(bench: Bench) -> None:
    bench.commit_ordinary("base")
    bench.commit_thin("thin")
    bench.commit_ordinary("above", "thin")
    for parent, wanted in (("base", False), ("thin", True), ("above", True)):
        (mount,) = bench.snapshotter.prepare(f"on {parent}", parent, {})
        assert mount.options[0] == "index=off"
        assert ("xino=on" in mount.options) == wanted
