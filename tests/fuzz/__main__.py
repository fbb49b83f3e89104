"""``python -m tests.fuzz --seconds 600``: fuzz every family in turn, and keep what is found."""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
import time
from functools import partial
from pathlib import Path

from tests.fuzz.fuzzing import FAMILIES, fuzz


def _before(end: float, _tried: int) -> bool:
    return time.monotonic() < end


def main() -> int:
    """Fuzz; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=float, default=600.0, help="for all families together")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="to do the same again")
    parser.add_argument("--finds", type=Path, default=Path(".fuzz"), help="folder of the finds")
    parser.add_argument("families", nargs="*", default=FAMILIES)
    options = parser.parse_args()
    logging.disable()
    found = 0
    for family in options.families:
        end = time.monotonic() + options.seconds / len(options.families)
        tried, find = fuzz(family, options.seed, partial(_before, end))
        sys.stdout.write(f"{family}: {tried} inputs, seed {options.seed}\n")
        if find is not None:
            found += 1
            options.finds.mkdir(exist_ok=True)
            file = options.finds / f"{family}-{hashlib.sha256(find.data).hexdigest()[:12]}"
            file.write_bytes(find.data)
            sys.stdout.write(f"{find.what}\n{file} with {find.options}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
