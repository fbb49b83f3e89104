"""What every test has: a checked log, a machine without leftovers, skips that say why."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support import needs, sweep
from tests.support.containerd import Containerd
from tests.support.logcheck import LogCheck, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

pytest_plugins = ["pytester"]
_RECORDER = pytest.StashKey[Recorder]()
_UNINSTALL = pytest.StashKey["Callable[[], None]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --no-skips."""
    parser.addoption(
        "--no-skips",
        action="store_true",
        default=os.environ.get("CI") == "true",
        help="a skip is a failure, unless the machine cannot do it (default when CI=true)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin to watch the log."""
    config.addinivalue_line(
        "markers", "expects_log(regex): a log record or a line of a daemon's log may match it"
    )
    config.stash[_RECORDER] = Recorder()
    config.stash[_UNINSTALL] = config.stash[_RECORDER].install()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End watching the log."""
    config.stash[_UNINSTALL]()


def pytest_sessionstart() -> None:
    """Remove what killed runs left behind."""
    # A shell starts what runs in the background deaf to Ctrl-C, and so would be all that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sweep.sweep_stale()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove what fixtures forgot, and say so: it is a defect of theirs."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for folder in sweep.sweep_own():
        if reporter is not None:
            reporter.write_line(f"left behind and swept: {folder}", red=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Give each test a log check of its own."""
    check = LogCheck([str(mark.args[0]) for mark in item.iter_markers("expects_log")])
    item.config.stash[_RECORDER].check = check
    return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the markers ask for and the machine lacks."""
    if item.get_closest_marker("mount"):
        needs.fuse()
    if item.get_closest_marker("containerd"):
        needs.containerd()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fail the test when something was logged that it did not declare."""
    yield
    undeclared = item.config.stash[_RECORDER].check.undeclared()
    if undeclared:
        pytest.fail(
            "undeclared log records (declare them with @pytest.mark.expects_log or the fixture "
            "expect_log):\n" + "\n".join(undeclared),
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips into failures where none is allowed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse_skip(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for modules that skip themselves."""
    report = yield
    if report.skipped:
        _refuse_skip(collector.config, report)
    return report


def _refuse_skip(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    if config.getoption("--no-skips") and needs.IMPOSSIBLE not in reason:
        report.outcome = "failed"
        report.longrepr = f"skips are failures here (--no-skips, CI=true): {reason}"


@pytest.fixture
def expect_log(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Declares, in the middle of a test, log records that match a regular expression."""
    recorder: Recorder = request.config.stash[_RECORDER]
    return recorder.check.expect


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A short folder for sockets, mounts and processes; swept at the end."""
    made = sweep.make_folder("".join(c for c in request.node.name[:12] if c.isalnum()))
    yield made
    sweep.sweep_folder(made)


@pytest.fixture
def containerd(folder: Path) -> Iterator[Containerd]:
    """A containerd of the test's own, without proxy snapshotters."""
    needs.containerd()
    with Containerd(folder / "c") as running:
        yield running
