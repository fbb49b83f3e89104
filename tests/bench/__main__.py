"""``make bench``: the one door to every benchmark.

Runs ``run()`` of each ``*_bench.py`` beside this file whose name, or prefix of names, is asked
for: ``make bench ARGS="convert. catalog.write"``. One whose ``run`` takes prefixes is given them,
and measures only what has such names. Exit code 1 when a goal was not met.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = Path(__file__).parents[2] / ".bench/results.json"
SUFFIX = "_bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("prefix", nargs="*", help="only figures whose names begin like this")
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON file to write")
    options = parser.parse_args(arguments)
    found: list[report.Row] = []
    for name in selected(topics(), options.prefix):
        print(f"* {name}", file=sys.stderr, flush=True)
        found += report.rows(_run(name, options.prefix))
    kept = [row for row in found if matches(row.name, options.prefix)]
    if not kept:
        parser.error(f"no figure begins with {' or '.join(options.prefix)}")
    print(report.table(kept))
    report.write(kept, options.output)
    return int(any(row.met is False for row in kept))


def topics() -> list[str]:
    """The benchmarks there are: ``convert`` for ``convert_bench.py``."""
    files = Path(__file__).parent.glob(f"*{SUFFIX}.py")
    return sorted(file.stem.removesuffix(SUFFIX) for file in files)


def selected(names: Sequence[str], prefixes: Sequence[str]) -> list[str]:
    """The benchmarks that can give a figure with one of the prefixes; all without prefixes."""
    asked = {prefix.partition(".")[0] for prefix in prefixes}
    return [name for name in names if not asked or any(name.startswith(each) for each in asked)]


def matches(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a figure was asked for."""
    return not prefixes or name.startswith(tuple(prefixes))


def _run(name: str, prefixes: Sequence[str]) -> list[dict[str, Any]]:
    run: Callable[..., list[dict[str, Any]]] = importlib.import_module(
        f"tests.bench.{name}{SUFFIX}"
    ).run
    return run(prefixes) if inspect.signature(run).parameters else run()


if __name__ == "__main__":
    sys.exit(main())
