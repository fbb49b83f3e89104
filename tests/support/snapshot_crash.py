"""Kills a snapshotter at every line of its code, and looks at what each death leaves behind.

``python -m tests.support.snapshot_crash FOLDER STRIDE [broken]`` plays one scenario again and
again, each time in a process of its own that gets SIGKILL some lines later than the last, until
one reaches the end. It prints a JSON object: how many deaths there were, and what was wrong after
which. With ``broken`` the snapshotter deletes directories before rows, which must be noticed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import snapshotter
from snapshotter import directories
from snapshotter.snapshotter import Snapshotter
from tests.support.snapshots import (
    RECIPE,
    Bench,
    disagreements,
    forgotten_holders,
    needless_holders,
    orphans,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from _typeshed import TraceFunction

    from snapshotter.model import Kind

TRACED = (str(Path(snapshotter.__file__).parent), __file__)

State = dict[str, "Kind"]


class DeletesTooEarly(Snapshotter):
    """A snapshotter with the mistake that the order of steps is there to avoid."""

    def remove(self, key: str) -> None:
        directories.delete(self._layout.home(self._store.get(key).id))
        super().remove(key)


def scenario(bench: Bench) -> Iterator[Callable[[], object]]:
    """Steps that use everything: thin and ordinary layers, views, labels, removal, clean-up."""
    s = bench.snapshotter
    yield lambda: s.prepare("extract", "", {"a": "1"})
    (bench.fs("extract") / "thin.json").write_text(RECIPE)
    yield lambda: s.commit("thin", "extract", {})
    yield lambda: s.prepare("extract", "thin", {})
    yield lambda: s.commit("above", "extract", {})
    yield lambda: s.view("view", "above", {})
    yield lambda: s.prepare("active", "above", {})
    yield lambda: s.mounts("view")
    yield lambda: s.update("active", {"b": "2"}, ["labels.b"])
    yield lambda: s.remove("view")
    yield s.cleanup
    yield lambda: s.prepare("view", "", {})
    yield lambda: s.remove("view")
    yield lambda: s.remove("active")
    yield s.cleanup


def state(bench: Bench) -> State:
    return {info.name: info.kind for info in bench.store.all()}


def play(folder: Path, *, broken: bool, kill_at: int | None) -> list[State]:
    """Play the scenario, or die at a line; ``done`` in the folder counts the finished steps."""
    bench = Bench(folder)
    if broken:
        bench.snapshotter = DeletesTooEarly(bench.layout, bench.store, bench.roots)
    if kill_at is not None:
        sys.settrace(killer(kill_at))
    states = [state(bench)]
    for number, step in enumerate(scenario(bench), 1):
        step()
        (folder / "done").write_text(str(number))
        states.append(state(bench))
    sys.settrace(None)
    bench.close()
    return states


def killer(lines: int) -> TraceFunction:
    """Make a trace function that kills this process at the given line of the traced files."""
    left = lines

    def trace(frame: FrameType, event: str, _argument: object) -> TraceFunction | None:
        nonlocal left
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def faults(folder: Path, states: list[State]) -> Iterator[str]:
    """What is wrong in the folder of a dead snapshotter, before and after it starts again."""
    done = folder / "done"
    finished = int(done.read_text() or 0) if done.exists() else 0
    bench = Bench(folder)
    # The step that was finished last may have been finished before it could be noted.
    if state(bench) not in states[finished : finished + 2]:
        yield f"after {finished} steps: {state(bench)}"
    yield from disagreements(bench.layout, bench.store)
    yield from forgotten_holders(bench.store, bench.roots)
    bench.snapshotter.delete_orphans()
    yield from orphans(bench.layout, bench.store)
    bench.snapshotter.cleanup()
    yield from disagreements(bench.layout, bench.store)
    yield from needless_holders(bench.store, bench.roots)
    bench.snapshotter.prepare("after", "", {})
    bench.close()


def killed(folder: Path, *, broken: bool, kill_at: int) -> bool:
    """Play in a process of its own and tell whether it was killed."""
    pid = os.fork()
    if pid == 0:
        play(folder, broken=broken, kill_at=kill_at)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise ChildProcessError(f"the scenario failed before line {kill_at}")
    return os.WIFSIGNALED(status)


def main(base: Path, stride: int, *, broken: bool) -> None:
    """Die at every ``stride``-th line."""
    states = play(base / "whole", broken=broken, kill_at=None)
    found: list[tuple[int, str]] = []
    deaths, line = 0, 1
    while killed(base / "killed", broken=broken, kill_at=line):
        found += [(line, fault) for fault in faults(base / "killed", states)]
        shutil.rmtree(base / "killed")
        deaths, line = deaths + 1, line + stride
    json.dump({"deaths": deaths, "faults": found}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), broken="broken" in sys.argv[3:])
