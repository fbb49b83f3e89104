"""The log checker notices what it should, and only that."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.logcheck import LogCheck, Recorder, notable, relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
LOG = """\
2026-01-01 00:00:00,000 INFO thinfs.daemon: ready
2026-01-01 00:00:01,000 WARNING thinfs.fetch: mirror is slow
2026-01-01 00:00:02,000 ERROR thinfs.fetch: mirror is gone
Traceback (most recent call last):
  File "x.py", line 1, in <module>
OSError: no route
2026-01-01 00:00:03,000 DEBUG thinfs.fetch: next
"""


@pytest.fixture
def check() -> Iterator[LogCheck]:
    recorder = Recorder()
    uninstall = recorder.install()
    yield recorder.check
    uninstall()


def test_a_warning_is_seen_and_a_declared_one_is_explained(
    check: LogCheck, expect_log: Callable[[str], None]
) -> None:
    expect_log("disk almost full")
    logging.getLogger("a.b").warning("disk %s full", "almost")
    assert check.undeclared() == ["WARNING a.b: disk almost full"]
    check.expect(r"disk \w+ full")
    assert check.undeclared() == []


def test_an_information_is_not_noted(check: LogCheck) -> None:
    logging.getLogger("a").setLevel(logging.DEBUG)
    logging.getLogger("a").info("all well")
    assert check.seen == []


def test_a_traceback_is_noted_whatever_its_level(
    check: LogCheck, expect_log: Callable[[str], None]
) -> None:
    expect_log("KeyError")
    logger = logging.getLogger("a")
    logger.setLevel(logging.DEBUG)
    try:
        raise KeyError("x")
    except KeyError:
        logger.debug("went wrong", exc_info=True)
    assert check.seen == ["DEBUG a: went wrong [KeyError('x')]"]


def test_a_command_that_replaces_the_handlers_does_not_escape(
    check: LogCheck, expect_log: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("hidden")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logging.getLogger("a").addHandler(logging.NullHandler())
    logging.getLogger("a").warning("hidden")
    assert len(check.seen) == 1


def test_the_log_of_a_process_gives_warnings_errors_and_tracebacks() -> None:
    assert list(notable(LOG.splitlines())) == [
        (logging.WARNING, "thinfs.fetch: mirror is slow"),
        (logging.ERROR, "thinfs.fetch: mirror is gone"),
        (logging.ERROR, "traceback: OSError: no route"),
    ]


def test_what_a_process_logged_is_checked_like_our_own(
    check: LogCheck, expect_log: Callable[[str], None]
) -> None:
    expect_log("mirror is|no route")
    relay("daemon", LOG)
    assert len(check.seen) == 3
    assert check.seen[0] == "WARNING tests.process.daemon: thinfs.fetch: mirror is slow"


def test_a_test_that_logs_an_undeclared_warning_fails(pytester: pytest.Pytester) -> None:
    _with_our_conftest(pytester)
    pytester.makepyfile(
        """
        import logging, pytest

        def test_quiet(): ...
        def test_loud(): logging.getLogger("x").warning("boo")
        @pytest.mark.expects_log("boo")
        def test_declared(): logging.getLogger("x").warning("boo")
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*undeclared log records*", "WARNING x: boo"])


@pytest.mark.parametrize(("options", "failed", "skipped"), [([], 0, 2), (["--no-skips"], 1, 1)])
def test_a_skip_fails_where_none_is_allowed_unless_it_is_declared_impossible(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    failed: int,
    skipped: int,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    _with_our_conftest(pytester)
    pytester.makepyfile(
        """
        import pytest
        from tests.support import needs

        def test_lazy(): pytest.skip("did not feel like it")
        def test_honest(): needs.impossible("kernel too old")
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    result.assert_outcomes(failed=failed, skipped=skipped)


def _with_our_conftest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import *  # noqa: F403")
    pytester.makeini(f"[pytest]\npythonpath = {ROOT}")
