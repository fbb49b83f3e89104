"""containerd's own snapshotter suite against thin-snapshotter, over gRPC, with real mounts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import needs, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = [pytest.mark.containerd, pytest.mark.slow, pytest.mark.timeout(900)]

MODULE = Path(__file__).parent / "conformance"
SNAPSHOTTER = [sys.executable, "-m", "snapshotter.main", "--log-level", "WARNING"]
RESULT = re.compile(r"^\s+--- (PASS|FAIL|SKIP): TestConformance/(\w+) ", re.MULTILINE)
# The spelling is theirs.
CASES = [
    "Basic",
    "StatActive",
    "StatComitted",
    "TransitivityTest",
    "PreareViewFailingtest",
    "Update",
    "Remove",
    "Walk",
    "LayerFileupdate",
    "RemoveDirectoryInLowerLayer",
    "Chown",
    "DirectoryPermissionOnCommit",
    "RemoveIntermediateSnapshot",
    "DeletedFilesInChildSnapshot",
    "MoveFileFromLowerLayer",
    "ViewReadonly",
    "StatInWalk",
    "CloseTwice",
    "RootPermission",
    "128LayersMount",
]
# Whatever the snapshotter: a directory of a lower layer cannot be renamed on every kernel.
LEFT_OUT_BY_CONTAINERD = "Rename"


@pytest.fixture(scope="module")
def go() -> str:
    """The Go compiler."""
    wanted = os.environ.get("THINFS_GO", "go")
    found = shutil.which(wanted)
    if found is None:
        pytest.skip(f"needs Go 1.23 or later: no command {wanted} (set THINFS_GO to its path)")
    return found


@pytest.fixture(scope="module")
def outcomes(go: str) -> Iterator[Mapping[str, str]]:
    """Each case and how it ended, of one run of the suite."""
    needs.root()
    folder = sweep.make_folder("conf")
    done = subprocess.run(
        [go, "test", "-mod=readonly", "-count=1", "-v", ".", "-args", "-test.root"],
        cwd=MODULE,
        env={
            **os.environ,
            "THINFS_SNAPSHOTTER": json.dumps(SNAPSHOTTER),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "TMPDIR": str(folder),
            sweep.MARK: str(folder),
        },
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)  # pytest shows it with the first failure
    yield {name: outcome for outcome, name in RESULT.findall(done.stdout)}
    sweep.sweep_folder(folder)


@pytest.mark.parametrize("case", CASES)
def test_containerds_suite_passes(case: str, outcomes: Mapping[str, str]) -> None:
    assert outcomes.get(case) == "PASS"


def test_nothing_but_the_case_that_containerd_skips_for_everybody_is_left_out(
    outcomes: Mapping[str, str],
) -> None:
    assert set(outcomes) == {*CASES, LEFT_OUT_BY_CONTAINERD}
    assert outcomes[LEFT_OUT_BY_CONTAINERD] in {"PASS", "SKIP"}
