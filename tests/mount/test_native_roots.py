"""Native roots: overlayfs over a metadata image, the cache, and FUSE for what is not here."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.file_operations import listing, observe, sample, unpack
from tests.support.repositories import directory, file, tree
from tests.support.sites import is_mounted
from tests.support.sweep import mounts_below
from tests.support.wait import wait_until
from thinfs.fs.tuning import fuse_connections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.repositories import MadeRoot
    from tests.support.sites import Site
    from thinfs.control.values import Root

pytestmark = pytest.mark.mount

MODES = ("tree", "native", "nested")
in_all_modes = pytest.mark.parametrize("root_mode", MODES, indirect=True)
natively = pytest.mark.parametrize("root_mode", ["native", "nested"], indirect=True)
OUT_OF_REACH = {errno.EIO, errno.ENOTCONN, errno.ECONNABORTED}


@contextmanager
def container(site: Site, lowerdir: str, name: str = "one") -> Iterator[Path]:
    """A writable overlay as the snapshotter has it mounted."""
    home = site.folder / f"container-{name}"
    for part in ("fs", "work", "root"):
        (home / part).mkdir(parents=True)
    options = f"index=off,xino=on,workdir={home}/work,upperdir={home}/fs,lowerdir={lowerdir}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, home / "root"], check=True)
    try:
        yield home / "root"
    finally:
        subprocess.run(["umount", "-l", home / "root"], check=True)


def bodies(root: Path) -> dict[str, bytes]:
    found = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def warm(site: Site, root: Root, count: int) -> None:
    """Read all of a root and wait until the cache has all of its contents."""
    bodies(Path(root.directory))
    wait_until(lambda: kept(site) >= count, f"{count} contents in the cache")


def kept(site: Site) -> int:
    return len(list((site.cache / "contents").glob("??/*")))


def contents(made: MadeRoot) -> int:
    return len(made.objects)


def cold_error(path: Path) -> int | None:
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno
    return None


@pytest.fixture
def four(site: Site) -> MadeRoot:
    """Four files, each in objects of its own."""
    return site.root(
        tree(
            directory(b""), *(file(name, os.urandom(200_000)) for name in (b"a", b"b", b"c", b"d"))
        )
    )


@in_all_modes
def test_files_behave_as_on_overlayfs_over_a_plain_directory(site: Site) -> None:
    site.folder.chmod(0o755)
    description = sample()
    plain = site.folder / "plain"
    plain.mkdir()
    unpack(description, plain)
    made = site.root(description)
    with site.daemon(), site.client() as client:
        root = client.attach("one", made.text)
        with container(site, root.lowerdir) as ours, container(site, str(plain), "plain") as theirs:
            assert observe(ours) == observe(theirs)


@in_all_modes
def test_a_view_shows_the_tree_and_cannot_be_written(site: Site) -> None:
    description = sample()
    plain = site.folder / "plain"
    plain.mkdir()
    unpack(description, plain)
    made = site.root(description)
    with site.daemon(), site.client() as client:
        view = Path(client.attach("one", made.text).directory)
        assert listing(view) == listing(plain)
        assert bodies(view) == bodies(plain)
        assert len({path.lstat().st_dev for path in (view, *view.rglob("*"))}) == 1
        with pytest.raises(OSError, match="Read-only file system"):
            (view / "new").write_bytes(b"x")


@natively
def test_status_says_how_roots_are_served(site: Site, root_mode: str, four: MadeRoot) -> None:
    with site.daemon(), site.client() as client:
        root = client.attach("one", four.text)
        assert root.mode == client.status().root_mode == "native"
        expected = "one overlay upon another" if root_mode == "nested" else "one overlay"
        assert expected in client.status().root_mode_reason
        assert ("::" in root.lowerdir) == (root_mode == "native")


@natively
def test_a_warm_root_asks_fuse_nothing(site: Site, four: MadeRoot) -> None:
    with site.daemon(), site.client() as client:
        root = client.attach("one", four.text)
        warm(site, root, contents(four))
        before = client.status().fuse_requests
        with container(site, root.lowerdir) as inside:
            found = bodies(inside)
            assert sorted(found) == ["a", "b", "c", "d"]
            assert listing(inside) != {}
        after = client.status().fuse_requests
        moved = {name for name in after if after[name] != before.get(name, 0)}
        assert moved <= {"statfs", "getattr"}  # of mounting, which looks at its layers
        assert after.get("lookup") == before.get("lookup")
        assert after.get("read") == before.get("read")


@natively
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.expects_log("detaching the dead mount|the supervisor is gone")
def test_what_is_warm_works_while_the_daemon_is_down_and_after(
    site: Site, four: MadeRoot, *, killed: bool
) -> None:
    with site.daemon() as daemon, site.client() as client:
        root = client.attach("one", four.text)
        with container(site, root.lowerdir) as old:
            cold = (old / "a").read_bytes(), (old / "b").read_bytes()
            wait_until(lambda: kept(site) == 2, "two contents in the cache")
            client.attach("early", four.text)
            with container(site, root.lowerdir, "early") as early:
                (early / "c").stat()
                site.kill_daemon(daemon) if killed else daemon.stop()
                assert ((early / "a").read_bytes(), (early / "b").read_bytes()) == cold
                (early / "a").write_bytes(b"changed")
                assert cold_error(early / "c") in OUT_OF_REACH
                with site.daemon("again"), site.client() as again:
                    (after,) = again.roots()
                    assert (after.mode, after.lowerdir) == (root.mode, root.lowerdir)
                    assert (early / "b").read_bytes() == cold[1]
                    assert cold_error(early / "c") in OUT_OF_REACH
                    with container(site, after.lowerdir, "new") as new:
                        assert (new / "a").read_bytes() == cold[0]
                        assert len((new / "c").read_bytes()) == 200_000
                        wait_until(lambda: kept(site) == 3, "the content in the cache")
                        # It is found there by who could not have it before, too.
                        assert (early / "c").read_bytes() == (new / "c").read_bytes()


@natively
@pytest.mark.expects_log("unmounted by somebody")
def test_killing_the_connection_leaves_what_is_warm(site: Site, four: MadeRoot) -> None:
    with site.daemon() as daemon, site.client() as client:
        root = client.attach("one", four.text)
        with container(site, root.lowerdir) as first:
            expected = (first / "a").read_bytes()
            wait_until(lambda: kept(site) == 1, "a content in the cache")
        client.attach("two", four.text)
        with container(site, root.lowerdir, "two") as inside:
            assert (inside / "a").read_bytes() == expected
            minor = os.minor(site.mountpoint.stat().st_dev)
            with fuse_connections() as connections:
                (connections / str(minor) / "abort").write_text("1")
            assert (inside / "a").read_bytes() == expected
            assert cold_error(inside / "b") == errno.ENOTCONN  # the kernel's own choice
            assert sorted(listing(inside)) == ["a", "b", "c", "d"]
        wait_until(lambda: not daemon.running, "the daemon to see that its mount has ended")


@natively
def test_an_evicted_content_stays_with_its_readers_and_is_fetched_again(
    site: Site, four: MadeRoot
) -> None:
    with site.daemon(), site.client() as client:
        root = client.attach("one", four.text)
        with container(site, root.lowerdir) as first:
            expected = (first / "a").read_bytes()
        wait_until(lambda: kept(site) == 1, "the content in the cache")
        (place,) = (site.cache / "contents").glob("??/*")
        with container(site, root.lowerdir, "two") as second, (second / "a").open("rb") as opened:
            assert opened.read(10) == expected[:10]
            place.unlink()
            assert opened.read() == expected[10:]
            assert (second / "a").read_bytes() == expected
            reads = client.status().fuse_requests.get("open", 0)
            with container(site, root.lowerdir, "three") as third:
                assert (third / "a").read_bytes() == expected
            assert client.status().fuse_requests["open"] > reads


@natively
def test_a_content_outlives_the_root_it_was_found_by(site: Site) -> None:
    common = os.urandom(300_000)
    one = site.root(tree(directory(b""), file(b"same", common)), origin="test/one:1")
    two = site.root(tree(directory(b""), file(b"same", common), file(b"x", b"x")), origin="test/2")
    with site.daemon(), site.client() as client:
        client.attach("one", one.text)
        other = client.attach("two", two.text)
        with container(site, other.lowerdir) as inside, (inside / "same").open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            assert os.pread(opened.fileno(), 4096, 0) == common[:4096]
            client.detach("one")
            assert opened.read() == common
            assert (inside / "same").stat().st_size == len(common)


@natively
def test_what_one_root_fetches_is_kept_for_all(site: Site) -> None:
    small = [file(b"f%d" % number, b"body %d" % number) for number in range(6)]
    one = site.root(tree(directory(b""), *small), origin="test/one:1")
    with site.daemon(), site.client() as client:
        first = client.attach("one", one.text)
        (Path(first.directory) / "f0").read_bytes()
        wait_until(lambda: kept(site) == 6, "all contents of the bundle in the cache")


@natively
def test_nothing_stays_mounted_when_the_last_holder_leaves(site: Site, four: MadeRoot) -> None:
    with site.daemon(), site.client() as client:
        idle = mounts_below(site.folder)
        client.attach("one", four.text)
        client.attach("two", four.text)
        assert len(mounts_below(site.folder)) >= len(idle) + 2
        client.detach("one")
        root = client.roots()[0]
        with container(site, root.lowerdir) as inside:
            client.detach("two")
            assert set(mounts_below(site.folder)) == {*idle, inside}
            assert sorted(listing(inside)) == ["a", "b", "c", "d"]
        assert list((site.folder / "mnt.native").iterdir()) == []
        # The image may be evicted now.
        assert len(list((site.cache / "metadata").iterdir())) == 1


@natively
def test_mounts_of_a_killed_daemon_are_swept(
    site: Site, four: MadeRoot, expect_log: object
) -> None:
    assert callable(expect_log)
    expect_log("detaching the dead mount|the supervisor is gone")
    with site.daemon() as daemon, site.client() as client:
        client.attach("one", four.text)
        site.kill_daemon(daemon)
    left = mounts_below(site.folder / "mnt.native")
    assert len(left) >= 2
    with site.daemon("again"), site.client() as client:
        assert len(mounts_below(site.folder / "mnt.native")) == len(left)
        client.detach("one")
        assert mounts_below(site.folder / "mnt.native") == []
    assert not is_mounted(site.mountpoint)


@natively
def test_a_content_has_a_name_and_an_unknown_one_is_an_error(site: Site, four: MadeRoot) -> None:
    with site.daemon(), site.client() as client:
        root = client.attach("one", four.text)
        warm(site, root, contents(four))
        place = site.mountpoint / "contents"
        names = {path.name for path in (site.cache / "contents").glob("??/*")}
        for name in names:
            known = place / name[:2] / name
            assert known.read_bytes() == (site.cache / "contents" / name[:2] / name).read_bytes()
            assert known.stat().st_mode == 0o100444
        assert list(place.iterdir()) == []
        assert not (place / "zz").exists()
        assert not (place / "00/short").exists()


@pytest.mark.expects_log("no attached root has content")
def test_an_unknown_content_is_never_a_missing_file(site: Site, four: MadeRoot) -> None:
    with site.daemon(), site.client() as client:
        client.attach("one", four.text)
        unknown = site.mountpoint / "contents/00" / ("0" * 64)
        assert cold_error(unknown) == errno.EIO


@pytest.mark.parametrize("root_mode", ["native"], indirect=True)
def test_a_daemon_that_must_and_cannot_serve_natively_refuses_to_start(site: Site) -> None:
    site.cache.write_bytes(b"no directory")
    done = subprocess.run(
        site.command("daemon"), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 7
    assert 'root_mode = "native", but' in done.stderr.splitlines()[-1]
    assert "the cache cannot be written" in done.stderr.splitlines()[-1]


@pytest.mark.expects_log("the cache cannot be written")
def test_a_daemon_that_cannot_serve_natively_serves_trees_and_says_why(
    site: Site, four: MadeRoot
) -> None:
    site.cache.write_bytes(b"no directory")
    with site.daemon(), site.client() as client:
        status = client.status()
        assert status.root_mode == "tree"
        assert status.root_mode_reason == (
            "native roots are not possible here: the cache cannot be written"
        )
